//! The seed as an ISO 9660 image: label `cidata`, Joliet and Rock Ridge, four files at the root.

use std::io::Cursor;
use std::sync::Arc;

use hadris_iso::joliet::JolietLevel;
use hadris_iso::read::PathSeparator;
use hadris_iso::rrip::RripOptions;
use hadris_iso::write::options::{BaseIsoLevel, CreationFeatures, IsoFormatOptions};
use hadris_iso::write::{File, InputFiles, IsoImageWriter};
use vmmgr_common::error::{ErrorCode, Problem};

use super::{Rendered, SeedFile};

/// What cloud-init looks for.
const LABEL: &str = "cidata";
const SECTOR: usize = 2048;

/// Builds the image in memory.
pub(super) fn build(seed: &Rendered) -> Result<Vec<u8>, Problem> {
    let file = |name: SeedFile, contents: &[u8]| File::File {
        name: Arc::new(name.name().to_owned()),
        contents: contents.to_vec(),
    };
    let files = InputFiles {
        path_separator: PathSeparator::ForwardSlash,
        files: vec![
            file(SeedFile::MetaData, &seed.meta_data),
            file(SeedFile::UserData, &seed.user_data),
            file(SeedFile::VendorData, &seed.vendor_data),
            file(SeedFile::NetworkConfig, &seed.network_config),
        ],
    };
    let image = IsoImageWriter::create(Cursor::new(Vec::new()), files, options()).map_err(|e| {
        Problem::new(ErrorCode::Internal, format!("cannot build the seed's ISO image: {e}"))
    })?;
    let mut image = image.into_inner();
    // Drives read whole sectors.
    image.resize(image.len().next_multiple_of(SECTOR), 0);
    Ok(image)
}

fn options() -> IsoFormatOptions {
    IsoFormatOptions {
        volume_name: LABEL.to_owned(),
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        sector_size: SECTOR,
        features: CreationFeatures {
            filenames: BaseIsoLevel::Level1 { supports_lowercase: false, supports_rrip: true },
            joliet: Some(JolietLevel::Level3),
            rock_ridge: Some(RripOptions::default()),
            ..CreationFeatures::default()
        },
        path_separator: PathSeparator::ForwardSlash,
        strict_charset: false,
    }
}
