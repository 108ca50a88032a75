//! Patterns of paths, for the places where packages put their programs.

use std::fs;
use std::path::{Path, PathBuf};

/// The existing paths that match a pattern with at most one `*` per name.
pub fn expand(pattern: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.as_ref().components() {
        let part = part.as_os_str().to_string_lossy();
        found = match part.split_once('*') {
            None => found.iter().map(|path| path.join(&*part)).collect(),
            Some((prefix, suffix)) => found.iter().flat_map(|path| entries(path, prefix, suffix)).collect(),
        };
    }
    found.retain(|path| path.exists());
    found
}

fn entries(directory: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.len() >= prefix.len() + suffix.len() && name.starts_with(prefix) && name.ends_with(suffix)
    };
    fs::read_dir(directory).map(|all| all.flatten().map(|entry| entry.path()).filter(fits).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_finds_what_exists() {
        let root = tempfile::tempdir().expect("a temporary directory");
        for name in ["pgsql-16/bin", "pgsql-17/bin", "pgsql-18", "other/bin"] {
            fs::create_dir_all(root.path().join(name)).expect("a directory");
        }
        let mut found = expand(root.path().join("pgsql-*/bin"));
        found.sort();
        assert_eq!(found, [root.path().join("pgsql-16/bin"), root.path().join("pgsql-17/bin")]);
    }
}
