//! Encodings that a client may ask a guest for.

/// How pictures come: raw, copy, RRE, hextile, zlib, tight, ZRLE, JPEG, H.264, tight PNG.
const PICTURES: [i32; 11] = [0, 1, 2, 4, 5, 6, 7, 16, 21, 50, -260];
/// Size, last rectangle, pointer motion, cursor, key events with scan codes, lamps, cursor with
/// alpha, name, size with screens. Left out: audio (-259), extended clipboard, fences, tunnels.
const EXTENSIONS: [i32; 9] = [-223, -224, -257, -239, -258, -261, -314, -307, -308];
/// Cursor as VMware has it, which QEMU speaks too.
const VMWARE_CURSOR: i32 = 0x574d_5664;

/// Whether it is on the list; quality and compression levels are.
pub(super) fn allowed(encoding: i32) -> bool {
    PICTURES.contains(&encoding)
        || EXTENSIONS.contains(&encoding)
        || matches!(encoding, -32..=-23 | -256..=-247 | VMWARE_CURSOR)
}
