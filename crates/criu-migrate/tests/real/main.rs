//! Migrations with the real CRIU, both sides in this process or in processes of their own.

mod journey;
mod stop_and_copy;
