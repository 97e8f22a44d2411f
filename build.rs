//! How the program is linked: its relocations packed (`DT_RELR`, glibc 2.36 or musl 1.2.4), a few KiB instead of 400, all of
//! which the loader would read at the start and leave resident.
//! Must not generate or probe anything. Called by cargo, before it builds the program.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
