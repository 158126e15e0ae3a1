//! Reads and writes every CRIU checkpoint image, losslessly, from any `Read` and to any `Write`.

pub mod message;
pub mod schema;
pub mod wire;
