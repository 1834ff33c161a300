//! Holds the test of the workspace's layers (`tests/layering.rs`); the crate itself is empty.
