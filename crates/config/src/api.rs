//! The two macros that declare the API's types, so that each struct and enum of Istio's and Kubernetes' APIs gets the
//! same derives and the same JSON form. They know nothing of particular kinds.
//!
//! JSON follows proto3's mapping: camelCase names, fields at their default are left out, a wrapper type of the API
//! (`BoolValue`, `UInt32Value`, …) is an `Option`.

/// Whether a value is its type's default, which the JSON form leaves out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares structs of the API: all fields public, optional in JSON, camelCase.
macro_rules! api {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* $field:ident : $type:ty),* $(,)? })*) => {$(
        #[derive(Clone, Debug, Default, PartialEq, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(rename_all = "camelCase")]
        $(#[$meta])*
        pub struct $name {
            $($(#[$fmeta])* #[serde(default, skip_serializing_if = "crate::api::is_default")] pub $field: $type,)*
        }
    )*};
}

/// Declares enums of the API with their spellings; the variant marked `#[default]` is what an absent field means.
macro_rules! api_enum {
    ($($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $spelling:literal),* $(,)? })*) => {$(
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema,
        )]
        $(#[$meta])*
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $spelling)] $variant,)* }

        impl $name {
            /// The API's spelling.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $spelling,)* }
            }
        }
    )*};
}

pub(crate) use {api, api_enum};
