//! Pictures: PNG of 8 bits a channel, OpenEXR of linear f32.

use std::io::{Cursor, Seek, Write};
use std::path::Path;

use exr::prelude::{Encoding, Image, SpecificChannels, WritableImage};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::{Error, check_folder, replace};

/// The formats that can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// 8 bits a channel, sRGB.
    Png,
    /// Linear f32.
    Exr,
}

/// The format that the extension asks for, if the folder is there: to be asked before an hour's work, not after.
///
/// # Errors
/// [`Error`] for other extensions, and if there is no such folder.
pub fn check(path: &Path) -> Result<Format, Error> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let format = match extension.to_ascii_lowercase().as_str() {
        "png" => Format::Png,
        "exr" => Format::Exr,
        _ => {
            let reason = "unknown extension: use .png (sRGB) or .exr (linear)".to_owned();
            return Err(Error { path: path.to_owned(), reason });
        }
    };
    check_folder(path)?;
    Ok(format)
}

/// Rows from above, RGB of 8 bits.
///
/// # Errors
/// That of the encoder: a side of 0, or numbers that are not `width * height * 3`.
pub fn png(width: u32, height: u32, rgb: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new(&mut bytes);
    encoder.write_image(rgb, width, height, ExtendedColorType::Rgb8).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Writes what [`png`] gives. A file that is there is replaced when the new one is whole.
///
/// # Errors
/// [`Error`] if it can't be written.
pub fn write_png(path: &Path, width: u32, height: u32, rgb: &[u8]) -> Result<(), Error> {
    let bytes = png(width, height, rgb).map_err(|reason| Error { path: path.to_owned(), reason })?;
    replace(path, |file| file.write_all(&bytes))
}

/// Writes linear RGB, rows from above, without loss. A file that is there is replaced when the new one is whole.
///
/// # Errors
/// [`Error`] if it can't be written.
///
/// # Panics
/// If there are less than `width * height * 3` numbers.
pub fn write_exr(path: &Path, width: u32, height: u32, rgb: &[f32]) -> Result<(), Error> {
    replace(path, |file| {
        let mut bytes = Cursor::new(Vec::new());
        exr_into(&mut bytes, width as usize, height as usize, rgb).map_err(std::io::Error::other)?;
        file.write_all(bytes.get_ref())
    })
}

fn exr_into(to: impl Write + Seek, width: usize, height: usize, rgb: &[f32]) -> exr::error::UnitResult {
    let channels = SpecificChannels::rgb(|at: exr::math::Vec2<usize>| {
        let start = (at.y() * width + at.x()) * 3;
        (rgb[start], rgb[start + 1], rgb[start + 2])
    });
    Image::from_encoded_channels((width, height), Encoding::FAST_LOSSLESS, channels)
        .write()
        .non_parallel()
        .to_buffered(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let (width, height) = (3, 2);
        let bytes: Vec<u8> = (0..18).map(|i| i * 13).collect();
        let path = folder.path().join("a.png");
        write_png(&path, width, height, &bytes).unwrap();
        assert_eq!(image::open(&path).unwrap().into_rgb8().into_raw(), bytes);
        let numbers: Vec<f32> = (0..18).map(|i| (i as f32 - 3.0) * 1.7e5).collect();
        let path = folder.path().join("a.exr");
        write_exr(&path, width, height, &numbers).unwrap();
        let read = exr::prelude::read_first_rgba_layer_from_file(
            &path,
            |size, _| vec![0.0_f32; size.area() * 3],
            |pixels, at, (r, g, b, _): (f32, f32, f32, f32)| {
                let start = (at.y() * 3 + at.x()) * 3;
                pixels[start..start + 3].copy_from_slice(&[r, g, b]);
            },
        );
        assert_eq!(read.unwrap().layer_data.channel_data.pixels, numbers);
    }

    #[test]
    fn where_it_goes_is_checked_before() {
        assert_eq!(check(Path::new("a.PNG")).unwrap(), Format::Png);
        assert_eq!(check(Path::new("./a.exr")).unwrap(), Format::Exr);
        assert!(check(Path::new("a.jpg")).unwrap_err().to_string().contains("use .png"));
        assert!(check(Path::new("no/such/a.png")).unwrap_err().to_string().contains("folder does not exist"));
    }
}
