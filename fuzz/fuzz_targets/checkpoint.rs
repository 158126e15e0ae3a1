//! See `criu_image::fuzz::checkpoint`.
#![cfg_attr(feature = "libfuzzer", no_main)]

criu_fuzz::target!("checkpoint", criu_image::fuzz::checkpoint);
