//! Images as textures: PNG and JPEG, brought to 8 bits a channel, with an end to what they may unfold to.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

/// Texels of one image, 8192 x 8192: a file of 1 MB can unfold to any size.
const MAX_TEXELS: u64 = 1 << 26;
/// Texels of all images of a scene, 1 GB.
const MAX_TEXELS_OF_ALL: u64 = 1 << 28;
/// Bytes that a byte of deflate stands for, at most; and texels that a byte of JPEG does, a bit for each block of 64.
const DEFLATE_MAX: u64 = 1032;
const JPEG_MAX: u64 = 64 * 8;
/// What a decoder may hold beside the texels: rows, and a color profile, which is compressed, too.
const MAX_BESIDE: u64 = 64 << 20;

/// An image of 8 bits a channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Image {
    pub width: u32,
    pub height: u32,
    /// Rows from above; RGBA.
    pub texels: Vec<[u8; 4]>,
}

/// How many texels a scene may still unfold.
pub(super) struct Budget {
    texels: u64,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget { texels: MAX_TEXELS_OF_ALL }
    }

    /// Takes the texels of one image.
    ///
    /// # Errors
    /// It is too large, or there are too many.
    pub(super) fn take(&mut self, width: u32, height: u32) -> Result<(), String> {
        let texels = u64::from(width) * u64::from(height);
        if texels > MAX_TEXELS {
            return Err(format!(
                "it is {width} x {height}; a texture has at most {MAX_TEXELS} texels: make it smaller"
            ));
        }
        let left = self.texels.checked_sub(texels);
        self.texels = left.ok_or_else(|| {
            format!("the textures together have more than {MAX_TEXELS_OF_ALL} texels: make them smaller")
        })?;
        Ok(())
    }
}

/// Decodes a PNG or JPEG, by its first bytes.
///
/// # Errors
/// It is neither, damaged, or too large.
pub(super) fn decode(bytes: &[u8], budget: &mut Budget) -> Result<Image, String> {
    let damaged = |error: image::ImageError| format!("it is damaged ({error}): save it again");
    let format = image::guess_format(bytes).ok();
    let format = format.filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg));
    let format = format.ok_or("it is neither a PNG nor a JPEG: convert it to one")?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_BESIDE);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    budget.take(width, height)?;
    if u64::from(width) * u64::from(height) > most_texels(format, bytes) {
        return Err(format!(
            "it is {} bytes, too few for {width} x {height}: it is truncated, save it again",
            bytes.len()
        ));
    }
    let rgba = DynamicImage::from_decoder(decoder).map_err(damaged)?.into_rgba8();
    let texels = bytemuck::pod_collect_to_vec(rgba.as_raw().as_slice());
    Ok(Image { width, height, texels })
}

/// The texels that a file of this length can unfold to: a decoder takes the memory for all that the head claims, first.
fn most_texels(format: ImageFormat, bytes: &[u8]) -> u64 {
    let len = bytes.len() as u64;
    if format == ImageFormat::Jpeg {
        return len * JPEG_MAX;
    }
    // The first chunk of a PNG is its head: bits a channel, and how many there are.
    let bits = match bytes.get(24..26) {
        Some(&[depth, kind]) => u64::from(depth) * [1, 1, 3, 1, 2, 1, 4].get(usize::from(kind)).unwrap_or(&1),
        _ => 1,
    };
    len * DEFLATE_MAX * 8 / bits.max(1)
}

#[cfg(test)]
pub(super) mod tests {
    use image::{ImageBuffer, Luma, Rgb};
    use proptest::prelude::*;

    use super::*;

    /// A PNG of one color.
    pub(in super::super) fn png(width: u32, height: u32, color: [u8; 3]) -> Vec<u8> {
        encoded(&ImageBuffer::from_pixel(width, height, Rgb(color)).into(), ImageFormat::Png)
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn decoded(bytes: &[u8]) -> Result<Image, String> {
        decode(bytes, &mut Budget::new())
    }

    #[test]
    fn every_kind_becomes_rgba_of_8_bits() {
        let rgb = decoded(&png(2, 1, [1, 2, 3])).unwrap();
        assert_eq!((rgb.width, rgb.height, rgb.texels), (2, 1, vec![[1, 2, 3, 255]; 2]));
        let deep = ImageBuffer::from_pixel(1, 1, Luma([0x8000_u16])).into();
        assert_eq!(decoded(&encoded(&deep, ImageFormat::Png)).unwrap().texels, [[128, 128, 128, 255]]);
        let jpeg = ImageBuffer::from_pixel(8, 8, Rgb([0_u8; 3])).into();
        assert_eq!(decoded(&encoded(&jpeg, ImageFormat::Jpeg)).unwrap().texels, [[0, 0, 0, 255]; 64]);
    }

    #[test]
    fn other_files_and_damaged_ones_are_refused() {
        assert!(decoded(b"GIF89a").unwrap_err().contains("neither a PNG nor a JPEG"));
        assert!(decoded(b"").unwrap_err().contains("neither a PNG nor a JPEG"));
        let whole = png(5, 5, [7; 3]);
        for len in 8..whole.len() - 12 {
            assert!(decoded(&whole[..len]).unwrap_err().contains("damaged"), "{len}");
        }
    }

    #[test]
    fn an_image_that_unfolds_to_gigabytes_is_refused() {
        let mut bytes = png(1, 1, [0; 3]);
        bytes[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
        let sum = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        let reason = decoded(&bytes).unwrap_err();
        assert!(reason.contains("60000 x 60000; a texture has at most"), "{reason}");
        let mut budget = Budget::new();
        (0..4).for_each(|_| budget.take(8192, 8192).unwrap());
        assert!(budget.take(1, 1).unwrap_err().contains("textures together"));
    }

    #[test]
    fn an_image_that_claims_more_than_its_bytes_can_unfold_to_is_refused_before_it_is_decoded() {
        let mut bytes = png(1, 1, [0; 3]);
        bytes[16..20].copy_from_slice(&8000_u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&8000_u32.to_be_bytes());
        let sum = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        assert!(decoded(&bytes).unwrap_err().contains("too few for 8000 x 8000"), "{:?}", decoded(&bytes));
        let white = ImageBuffer::from_pixel(600, 600, Rgb([255_u8; 3]));
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let bytes = encoded(&white.clone().into(), format);
            assert_eq!(decoded(&bytes).unwrap().texels.len(), 360_000, "the emptiest image is one");
        }
    }

    /// That of a PNG's chunk.
    fn crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_an_error_or_an_image(
            place in any::<prop::sample::Index>(), byte in any::<u8>(), jpeg in any::<bool>(),
        ) {
            let format = if jpeg { ImageFormat::Jpeg } else { ImageFormat::Png };
            let image = ImageBuffer::from_fn(9, 9, |x, y| Rgb([(x * 20) as u8, (y * 20) as u8, 99])).into();
            let mut bytes = encoded(&image, format);
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(image) = decoded(&bytes) {
                prop_assert_eq!(image.texels.len(), (image.width * image.height) as usize);
            }
        }
    }
}
