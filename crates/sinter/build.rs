//! The program of an unpacked archive finds its libraries beside itself.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let beside = if cfg!(target_os = "macos") { "@loader_path/../lib" } else { "$ORIGIN/../lib" };
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,{beside}");
}
