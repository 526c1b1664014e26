//! Configuration files: TOML into a typed struct that refuses what it does not know.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration was refused; names the file and the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("configuration {path}: {message}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Key, line and what was expected.
        message: String,
    },
}

/// Reads `path` into `T`. Put `#[serde(deny_unknown_fields)]` on `T` and its sections.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = fs_err::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only parsed")]
        libvirt_uri: String,
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        fs_err::write(&path, "libvirt_url = 'x'\n").unwrap();
        let text = load::<Sample>(&path).unwrap_err().to_string();
        assert!(text.contains("agent.toml") && text.contains("libvirt_url"), "{text}");
        assert!(text.contains("libvirt_uri"), "{text}");
    }
}
