//! rbac.istio.io/v1alpha1: roles, their bindings and where they hold, replaced by AuthorizationPolicy.

use std::collections::BTreeMap;

use crate::api::{api, api_enum};

api! {
    /// What may be done.
    pub struct ServiceRole {
        rules: Vec<AccessRule>,
    }

    /// Services with operations on them.
    pub struct AccessRule {
        services: Vec<String>,
        hosts: Vec<String>,
        not_hosts: Vec<String>,
        paths: Vec<String>,
        not_paths: Vec<String>,
        methods: Vec<String>,
        not_methods: Vec<String>,
        ports: Vec<i32>,
        not_ports: Vec<i32>,
        constraints: Vec<Constraint>,
    }

    /// A condition on an attribute.
    pub struct Constraint {
        key: String,
        values: Vec<String>,
    }

    /// Who has a role.
    pub struct ServiceRoleBinding {
        subjects: Vec<Subject>,
        role_ref: Option<RoleRef>,
        mode: EnforcementMode,
        actions: Vec<AccessRule>,
        role: String,
    }

    /// A set of callers.
    pub struct Subject {
        user: String,
        names: Vec<String>,
        not_names: Vec<String>,
        /// Deprecated by `groups`.
        group: String,
        groups: Vec<String>,
        not_groups: Vec<String>,
        namespaces: Vec<String>,
        not_namespaces: Vec<String>,
        ips: Vec<String>,
        not_ips: Vec<String>,
        properties: BTreeMap<String, String>,
    }

    /// Names a role.
    pub struct RoleRef {
        kind: String,
        name: String,
    }

    /// Where access is controlled. ClusterRbacConfig has the same fields.
    pub struct RbacConfig {
        mode: RbacMode,
        inclusion: Option<RbacTarget>,
        exclusion: Option<RbacTarget>,
        enforcement_mode: EnforcementMode,
    }

    /// Services and namespaces.
    pub struct RbacTarget {
        services: Vec<String>,
        namespaces: Vec<String>,
    }
}

api_enum! {
    /// Whether a binding holds or is only tried.
    pub enum EnforcementMode {
        #[default]
        Enforced = "ENFORCED",
        Permissive = "PERMISSIVE",
    }

    /// Where access is controlled.
    pub enum RbacMode {
        #[default]
        Off = "OFF",
        On = "ON",
        OnWithInclusion = "ON_WITH_INCLUSION",
        OnWithExclusion = "ON_WITH_EXCLUSION",
    }
}
