//! From what the API server sends to events of the reducer. There is one parser: `config`'s.
//!
//! Pure.

use config::{Kind, Object, Parsed, Spec};
use kube::api::DynamicObject;
use kube::runtime::watcher;
use serde_json::{Map, Value, json};

use super::reducer::{Event, Name, Seen};
use crate::store::MESH_NAMESPACE;

/// Name of the ConfigMap in the root namespace that holds the mesh's settings, as Istio's.
const MESH_CONFIG_MAP: &str = "istio";
/// Its key with MeshConfig.
const MESH_KEY: &str = "mesh";
/// Its key with MeshNetworks.
const NETWORKS_KEY: &str = "meshNetworks";
/// kubectl's own record of what was applied: as long as the object, and read by nobody.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object as JSON, with what the API server leaves out of lists, and without its own bookkeeping.
pub(super) fn value(kind: Kind, mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let metadata = serde_json::to_value(&object.metadata).unwrap_or_default();
    let mut fields = match object.data {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("apiVersion".to_owned(), json!(kind.api_version()));
    fields.insert("kind".to_owned(), json!(kind.as_str()));
    fields.insert("metadata".to_owned(), metadata);
    Value::Object(fields)
}

/// The events that one of a kind's watch means: for its own kind and, of the mesh's ConfigMap, for the settings in it.
pub(super) fn events(kind: Kind, event: watcher::Event<DynamicObject>) -> Vec<(Kind, Event)> {
    let settings = [(Kind::MeshConfig, MESH_KEY), (Kind::MeshNetworks, NETWORKS_KEY)];
    let settings = settings.into_iter().filter(|_| kind == Kind::ConfigMap);
    match event {
        watcher::Event::Init => {
            let all = settings.map(|(kind, _)| (kind, Event::Init));
            all.chain([(kind, Event::Init)]).collect()
        }
        watcher::Event::InitDone => {
            let all = settings.map(|(kind, _)| (kind, Event::InitDone));
            all.chain([(kind, Event::InitDone)]).collect()
        }
        watcher::Event::InitApply(object) => {
            let found = settings
                .filter_map(|(kind, key)| Some((kind, Event::InitApply(setting(kind, key, &object)?))));
            let mut events: Vec<_> = found.collect();
            events.push((kind, Event::InitApply(seen(kind, object))));
            events
        }
        watcher::Event::Apply(object) => {
            let settings = settings.filter(|_| is_mesh(&object));
            let each = settings.map(|(kind, key)| match setting(kind, key, &object) {
                Some(seen) => (kind, Event::Apply(seen)),
                None => (kind, Event::Delete(mesh_name(), version(&object))),
            });
            let mut events: Vec<_> = each.collect();
            events.push((kind, Event::Apply(seen(kind, object))));
            events
        }
        watcher::Event::Delete(object) => {
            let gone = |name| Event::Delete(name, version(&object));
            let settings = settings.filter(|_| is_mesh(&object));
            settings
                .map(|(kind, _)| (kind, gone(mesh_name())))
                .chain([(kind, gone(name(&object)))])
                .collect()
        }
    }
}

fn name(object: &DynamicObject) -> Name {
    let metadata = &object.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

/// The settings have one name, whatever source they come from, so that one layer's can replace another's.
fn mesh_name() -> Name {
    (MESH_NAMESPACE.to_owned(), MESH_CONFIG_MAP.to_owned())
}

fn version(object: &DynamicObject) -> String {
    object.metadata.resource_version.clone().unwrap_or_default()
}

/// What there is to say of an object.
fn seen(kind: Kind, object: DynamicObject) -> Seen {
    let (name, version) = (name(&object), version(&object));
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let parsed = config::read(&value(kind, object));
    of_parsed(name, uid, version, parsed)
}

fn of_parsed(name: Name, uid: String, version: String, parsed: Parsed) -> Seen {
    Seen {
        name,
        uid,
        version,
        object: parsed.objects.into_iter().next(),
        findings: parsed.findings,
        status: parsed.statuses.into_values().next(),
    }
}

fn is_mesh(object: &DynamicObject) -> bool {
    object.metadata.name.as_deref() == Some(MESH_CONFIG_MAP)
}

/// MeshConfig or MeshNetworks in the mesh's ConfigMap; none where the object is another or has not the key.
fn setting(kind: Kind, key: &str, object: &DynamicObject) -> Option<Seen> {
    let text = object
        .data
        .get("data")?
        .get(key)?
        .as_str()
        .filter(|_| is_mesh(object))?;
    let (namespace, name) = name(object);
    let place = format!("ConfigMap {namespace}/{name}, {key}");
    let mut parsed = match kind {
        Kind::MeshConfig => config::parse_mesh_config(&place, text.as_bytes(), MESH_NAMESPACE),
        _ => config::parse_mesh_networks(&place, text.as_bytes(), MESH_NAMESPACE),
    };
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let with_uid = |object: &mut Object| object.meta.uid.clone_from(&uid);
    parsed.objects.iter_mut().for_each(with_uid);
    parsed
        .objects
        .iter_mut()
        .for_each(|object| at_home(object, &namespace));
    Some(of_parsed(mesh_name(), uid.clone(), version(object), parsed))
}

/// A MeshConfig that names no root namespace means the one that it is in (Istio: the control plane's own).
fn at_home(object: &mut Object, namespace: &str) {
    if let Spec::MeshConfig(mesh) = &mut object.spec
        && mesh.root_namespace.is_empty()
        && namespace != MESH_NAMESPACE
    {
        namespace.clone_into(&mut mesh.root_namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn mesh(data: &Value) -> DynamicObject {
        object(json!({
            "metadata": {"name": "istio", "namespace": "istio-system", "uid": "u", "resourceVersion": "7"},
            "data": data,
        }))
    }

    #[test]
    fn an_object_of_a_list_is_read_like_any_other() {
        let listed = object(json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "5", "generation": 2,
                "creationTimestamp": "2024-01-01T00:00:00Z",
                "annotations": {LAST_APPLIED: "{}", "networking.istio.io/exportTo": "."},
                "managedFields": [{"manager": "kubectl", "operation": "Update"}],
            },
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }));
        let [(kind, Event::Apply(seen))] = &events(Kind::Service, watcher::Event::Apply(listed))[..] else {
            panic!()
        };
        let object = seen.object.as_ref().unwrap();
        assert_eq!(
            (*kind, object.meta.generation, &*object.meta.uid),
            (Kind::Service, 2, "u")
        );
        assert_eq!(object.meta.created, Some(1_704_067_200));
        assert_eq!(object.meta.annotations.len(), 1, "{:?}", object.meta.annotations);
        assert!(seen.findings.is_empty(), "{:?}", seen.findings);
    }

    #[test]
    fn the_mesh_config_map_holds_the_settings() {
        let check = |event, expected: &[(Kind, &str)]| {
            let shown: Vec<(Kind, String)> = events(Kind::ConfigMap, event)
                .into_iter()
                .map(|(kind, event)| {
                    (
                        kind,
                        format!("{event:?}").split(['(', ' ']).next().unwrap().to_owned(),
                    )
                })
                .collect();
            let shown: Vec<(Kind, &str)> = shown.iter().map(|(kind, event)| (*kind, &**event)).collect();
            assert_eq!(shown, expected);
        };
        use watcher::Event::*;
        let full = || mesh(&json!({"mesh": "enableAutoMtls: false", "meshNetworks": "networks: {}"}));
        let (config, networks, map) = (Kind::MeshConfig, Kind::MeshNetworks, Kind::ConfigMap);
        check(
            InitApply(full()),
            &[(config, "InitApply"), (networks, "InitApply"), (map, "InitApply")],
        );
        check(
            Apply(full()),
            &[(config, "Apply"), (networks, "Apply"), (map, "Apply")],
        );
        let half = mesh(&json!({"mesh": ""}));
        check(
            Apply(half),
            &[(config, "Apply"), (networks, "Delete"), (map, "Apply")],
        );
        check(
            Delete(full()),
            &[(config, "Delete"), (networks, "Delete"), (map, "Delete")],
        );
        check(Init, &[(config, "Init"), (networks, "Init"), (map, "Init")]);
        let mut other = full();
        other.metadata.name = Some("other".to_owned());
        check(Apply(other.clone()), &[(map, "Apply")]);
        check(InitApply(other), &[(map, "InitApply")]);
    }

    #[test]
    fn the_root_namespace_is_where_the_settings_are_unless_they_name_another() {
        let check = |namespace: &str, text: &str, expected: &str| {
            let mut map = mesh(&json!({ "mesh": text }));
            map.metadata.namespace = Some(namespace.to_owned());
            let seen = setting(Kind::MeshConfig, MESH_KEY, &map).unwrap();
            let Spec::MeshConfig(mesh) = &seen.object.as_ref().unwrap().spec else {
                panic!("{seen:?}")
            };
            let mesh = mesh.as_ref().clone().with_defaults();
            assert_eq!(mesh.root_namespace, expected, "{namespace}: {text}");
        };
        check("istio-system", "", "istio-system");
        check("mesh-system", "enableAutoMtls: true", "mesh-system");
        check("mesh-system", "rootNamespace: other", "other");
    }

    #[test]
    fn what_is_wrong_with_the_settings_has_a_place() {
        let seen = setting(
            Kind::MeshConfig,
            MESH_KEY,
            &mesh(&json!({"mesh": "a: 1\nenableAutoMtls: 7"})),
        )
        .unwrap();
        assert!(seen.object.is_none());
        let told = seen.findings[0].to_string();
        assert!(
            told.starts_with("ConfigMap istio-system/istio, mesh:1:"),
            "{told}"
        );
    }
}
