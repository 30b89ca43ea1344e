//! Tells the extension how it is being built: `src/build.rs` reads what is printed here.

use std::{env, error::Error, path::Path, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    // Which ABI is built for: `Py_LIMITED_API` and `Py_GIL_DISABLED`.
    pyo3_build_config::use_pyo3_cfgs();
    let target = env::var("TARGET")?;
    let out_dir = env::var("OUT_DIR")?;
    let profile = profile(Path::new(&out_dir));
    let rustc = Command::new(env::var("RUSTC")?).arg("--version").output()?;
    println!("cargo::rustc-env=BUILD_TARGET={target}");
    println!("cargo::rustc-env=BUILD_PROFILE={profile}");
    println!(
        "cargo::rustc-env=BUILD_RUSTC={}",
        String::from_utf8(rustc.stdout)?.trim()
    );
    Ok(())
}

/// The profile's name, which cargo only tells in the path `<profile>/build/<package>/out`: the variable
/// `PROFILE` says "release" for every profile that inherits from it.
fn profile(out_dir: &Path) -> &str {
    let directory = out_dir.ancestors().nth(3).and_then(Path::file_name);
    match directory.and_then(|name| name.to_str()) {
        None => "unknown",
        // Cargo's own name of that directory.
        Some("debug") => "dev",
        Some(profile) => profile,
    }
}
