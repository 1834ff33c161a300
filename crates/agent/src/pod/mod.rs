//! What an agent in a Kubernetes pod knows of its pod: by the downward API, and by the injector's variables, which are those of
//! Istio's agent. Pure, but for reading files at the start.

pub mod info;
pub mod metadata;
pub mod proxy_config;
pub mod wait;

pub use info::{Info, InfoError};
pub use proxy_config::{Settings, SettingsError};
