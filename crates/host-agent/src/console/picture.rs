//! A screenshot as PNG, whatever the hypervisor made of it.

/// Larger than any screen that QEMU shows.
const MOST_PIXELS: u64 = 16384 * 16384;

/// PNG of what `virDomainScreenshot` gave: PNG already, or PPM (`P6`, 8 bits).
pub(super) fn png(data: Vec<u8>) -> Result<Vec<u8>, String> {
    if data.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Ok(data);
    }
    let (width, height, pixels) = ppm(&data).ok_or("neither PNG nor PPM")?;
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(|error| error.to_string())?;
    writer.write_image_data(pixels).map_err(|error| error.to_string())?;
    writer.finish().map_err(|error| error.to_string())?;
    Ok(out)
}

/// Width, height and pixels of a binary PPM.
fn ppm(data: &[u8]) -> Option<(u32, u32, &[u8])> {
    let mut rest = data.strip_prefix(b"P6")?;
    let mut numbers = [0_u32; 3];
    for number in &mut numbers {
        rest = skip_blank(rest)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        *number = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
        rest = &rest[digits..];
    }
    let [width, height, most] = numbers;
    let count = u64::from(width) * u64::from(height);
    if most != 255 || count == 0 || count > MOST_PIXELS {
        return None;
    }
    // One blank ends the header; more would be pixels.
    let pixels = rest.get(1..)?.get(..usize::try_from(count * 3).ok()?)?;
    Some((width, height, pixels))
}

fn skip_blank(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text.first()? {
            b'#' => text.splitn(2, |byte| *byte == b'\n').nth(1)?,
            byte if byte.is_ascii_whitespace() => &text[1..],
            _ => return Some(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ppm_becomes_a_png_of_the_same_pixels() {
        let ppm = b"P6\n# QEMU\n2 1\n255\n\x01\x02\x03\xff\x00\x10".to_vec();
        let made = png(ppm).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&made)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.height), (2, 1));
        assert_eq!(pixels, [1, 2, 3, 255, 0, 16]);
        assert_eq!(png(made.clone()).unwrap(), made);
    }

    #[test]
    fn what_is_no_picture_is_told() {
        for bad in [
            &b""[..],
            b"P6",
            b"P6\n1",
            b"P6 0 0 255\n",
            b"P6 2 2 255\nxx",
            b"P6 99999 99999 255\nxx",
            b"P6 1 1 65535\nxxxxxx",
            b"GIF89a",
        ] {
            assert!(png(bad.to_vec()).is_err(), "{bad:?}");
        }
    }
}
