//! What a domain's XML means: from a request to XML, and from XML back. Pure; knows no libvirt.
//!
//! ```text
//! DomainCreate -> spec (valid by construction) -> template -> XML -> policy -> libvirt
//! libvirt -> XML -> read -> Domain (wire)        target: letters and devices in XML
//! ```

pub(crate) mod cdrom;
pub(crate) mod policy;
pub(crate) mod rbd;
pub(crate) mod read;
pub(crate) mod spec;
pub(crate) mod target;
pub(crate) mod template;
pub(crate) mod variables;
