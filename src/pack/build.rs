//! Puts every pack of `vendors/` into the program, compressed: as text they would be an eighth of the filter's module.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vendors = Path::new("../../vendors");
    println!("cargo::rerun-if-changed={}", vendors.display());
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut packs: Vec<PathBuf> = std::fs::read_dir(vendors)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    packs.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    packs.sort();
    let mut table = String::from("[");
    for path in packs {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let compressed = lz4_flex::block::compress_prepend_size(&std::fs::read(&path)?);
        std::fs::write(out.join(format!("{name}.lz4")), compressed)?;
        let file = format!("concat!(env!(\"OUT_DIR\"), \"/{name}.lz4\")");
        write!(table, "(\"{name}\", include_bytes!({file})),")?;
    }
    table.push(']');
    std::fs::write(out.join("builtin.rs"), table)?;
    Ok(())
}
