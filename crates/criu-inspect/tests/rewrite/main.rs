//! Pages written anew: over images made by hand, beside Python's CRIT, and restored by the real CRIU.

mod chain;
mod python;
mod set;
mod synthetic;
