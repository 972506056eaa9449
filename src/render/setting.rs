//! What may be said of a picture, by whoever asks for one: the same on the command line and over HTTP.

use std::fmt;
use std::str::FromStr;

use super::{Request, plan};
use crate::tasks::render::load::{self, Loaded};
use crate::tasks::render::scene::{Scene, Surfaces};
use crate::tasks::render::trace::View;
use crate::tasks::render::{DEPTH_MAX, EncodedScene, SAMPLES_MAX, SIDE_MAX};

/// The largest picture: its sums take 24 bytes a pixel, 1.5 GiB.
const PIXELS_MAX: u64 = 1 << 26;

/// The longest side of a tile.
pub const TILE_MAX: u32 = 1024;

/// Tiles times passes, at most: each is remembered.
const PIECES_MAX: u64 = 1 << 22;

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The parser takes a sign, too.
        let side = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
        let sides = text.split_once(['x', 'X']).and_then(|(width, height)| Some((side(width)?, side(height)?)));
        let (width, height) = sides.ok_or("a size is WIDTHxHEIGHT in pixels, such as 1280x720")?;
        Ok(Size { width, height })
    }
}

/// Light from all around, linear RGB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sky(pub [f32; 3]);

impl FromStr for Sky {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<f32>, _> = text.split(',').map(|number| number.trim().parse::<f32>()).collect();
        let numbers = numbers.ok().filter(|numbers| numbers.iter().all(|number| number.is_finite() && *number >= 0.0));
        match numbers.as_deref() {
            Some([grey]) => Ok(Sky([*grey; 3])),
            Some([red, green, blue]) => Ok(Sky([*red, *green, *blue])),
            _ => Err("a sky is one number or three, R,G,B, none of them below 0".to_owned()),
        }
    }
}

/// A setting that can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its name, that of the option and of the query parameter.
    pub name: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What is to be made of a scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Of the picture.
    pub size: Size,
    /// Of each pixel.
    pub samples: u32,
    /// Of the random numbers.
    pub seed: u64,
    /// Pixels across and down a tile.
    pub tile: u32,
    /// Bounces.
    pub depth: u32,
    /// Which of the scene's cameras.
    pub camera: usize,
    /// In place of the scene's own.
    pub sky: Option<Sky>,
}

impl Setting {
    /// Whether there can be such a picture, of whatever scene.
    ///
    /// # Errors
    /// The setting at fault.
    pub fn check(&self) -> Result<(), Wrong> {
        let Size { width, height } = self.size;
        check(width, height, self.samples, self.tile, self.depth)
    }

    /// Bytes that the picture takes at most while it is made, its scene aside.
    pub fn picture_bytes(&self) -> u64 {
        let Size { width, height } = self.size;
        bytes(width, height, self.samples, self.tile)
    }

    /// The picture to be made of a scene, and what is to be said about it: what the scene has that will not be seen, and
    /// what was added so that something is.
    ///
    /// # Errors
    /// The setting that does not fit the scene.
    pub fn request(&self, loaded: Loaded) -> Result<(Request, Vec<String>), Wrong> {
        self.check()?;
        let Loaded { mut scene, cameras, warnings: mut notes } = loaded;
        if let Some(Sky(sky)) = self.sky {
            scene.environment = sky;
        } else if is_dark(&scene) {
            scene.environment = [1.0; 3];
            notes.push("nothing in the scene gives light, so a white sky does; set sky to 0 for none".to_owned());
        }
        let camera = match cameras.get(self.camera) {
            Some(camera) => *camera,
            None if cameras.is_empty() && self.camera == 0 => load::framing(&scene),
            None => {
                let reason = format!("it has {} cameras; camera {} counts from 0", cameras.len(), self.camera);
                return Err(Wrong { name: "camera", reason });
            }
        };
        let Size { width, height } = self.size;
        let view = View { camera, width, height, seed: self.seed, depth: self.depth, roulette: true };
        let request = Request { scene: EncodedScene::new(&scene), view, samples: self.samples, tile: self.tile };
        Ok((request, notes))
    }
}

/// Whether a picture can be of that size and so on.
pub(super) fn check(width: u32, height: u32, samples: u32, tile: u32, depth: u32) -> Result<(), Wrong> {
    let wrong = |name, reason| Err(Wrong { name, reason });
    let sides = 1..=SIDE_MAX;
    let pixels = u64::from(width) * u64::from(height);
    if !sides.contains(&width) || !sides.contains(&height) || pixels > PIXELS_MAX {
        return wrong(
            "size",
            format!(
                "a picture of {width}x{height}: a side is 1 to {SIDE_MAX} pixels, and all are at most {PIXELS_MAX}"
            ),
        );
    }
    if !(1..=SAMPLES_MAX).contains(&samples) {
        return wrong("spp", format!("{samples} samples a pixel; they are 1 to {SAMPLES_MAX}"));
    }
    if !(1..=TILE_MAX).contains(&tile) {
        return wrong("tile", format!("tiles of {tile} pixels; they are 1 to {TILE_MAX}"));
    }
    if !(1..=DEPTH_MAX).contains(&depth) {
        return wrong("depth", format!("{depth} bounces; they are 1 to {DEPTH_MAX}"));
    }
    match plan::count(width, height, tile, samples) {
        0..=PIECES_MAX => Ok(()),
        pieces => wrong(
            "tile",
            format!("{pieces} tiles, each pass of samples counted; at most {PIECES_MAX}: take larger ones"),
        ),
    }
}

/// Bytes of a picture in the making: 24 for the sums of a pixel and 12 for the picture made of them, 128 for what is
/// remembered of each piece, and tiles that are on their way in.
fn bytes(width: u32, height: u32, samples: u32, tile: u32) -> u64 {
    let pixels = u64::from(width) * u64::from(height);
    let pieces = plan::count(width, height, tile, samples);
    let in_flight = pieces.min(super::run::AT_LEAST).saturating_mul(u64::from(tile) * u64::from(tile));
    let in_flight = in_flight.min(pixels.saturating_mul(plan::passes_count(samples)));
    pixels.saturating_mul(36).saturating_add(pieces.saturating_mul(128)).saturating_add(in_flight.saturating_mul(12))
}

/// Whether a picture of it would be black.
fn is_dark(scene: &Scene) -> bool {
    let dark = |color: &[f32; 3]| color.iter().all(|c| *c == 0.0);
    let surfaces = match &scene.surfaces {
        Surfaces::Physical(materials) => materials.iter().all(|material| dark(&material.emission)),
        Surfaces::Phong(materials) => materials.iter().all(|material| dark(&material.ambient)),
    };
    surfaces && scene.lights.is_empty() && dark(&scene.environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: Setting = Setting {
        size: Size { width: 100, height: 50 },
        samples: 20,
        seed: 0,
        tile: 64,
        depth: 8,
        camera: 0,
        sky: None,
    };

    #[test]
    fn sizes_and_skies_are_read_or_refused() {
        assert_eq!("1280x720".parse(), Ok(Size { width: 1280, height: 720 }));
        for wrong in ["", "1280", "x", "1280x", "-1x5", "1280 x 720", "1.5x2", "+1x1"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong:?}");
        }
        assert_eq!("0.5".parse(), Ok(Sky([0.5; 3])));
        assert_eq!("0.5, 0,1e3".parse(), Ok(Sky([0.5, 0.0, 1000.0])));
        for wrong in ["", "1,2", "1,2,3,4", "-1", "nan", "inf", "white"] {
            assert!(wrong.parse::<Sky>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_no_picture_can_have_is_named() {
        let wrong: [(&str, Setting); 8] = [
            ("size", Setting { size: Size { width: 0, height: 1 }, ..SETTING }),
            ("size", Setting { size: Size { width: u32::MAX, height: u32::MAX }, ..SETTING }),
            ("spp", Setting { samples: 0, ..SETTING }),
            ("tile", Setting { tile: 0, ..SETTING }),
            ("tile", Setting { tile: u32::MAX, ..SETTING }),
            ("depth", Setting { depth: 0, ..SETTING }),
            // 5000 tiles are few, but not 4097 times.
            ("tile", Setting { tile: 1, samples: SAMPLES_MAX, ..SETTING }),
            ("tile", Setting { tile: 1, size: Size { width: 8192, height: 8192 }, ..SETTING }),
        ];
        assert_eq!(SETTING.check(), Ok(()));
        for (name, setting) in wrong {
            assert_eq!(setting.check().unwrap_err().name, name, "{setting:?}");
        }
    }

    #[test]
    fn the_memory_of_a_picture_is_that_of_its_sums_and_pieces() {
        // Two tiles of two passes.
        assert_eq!(SETTING.picture_bytes(), 5000 * 36 + 4 * 128 + 10_000 * 12);
    }

    #[test]
    fn a_dark_scene_gets_a_white_sky_and_one_without_cameras_a_camera() {
        let loaded = |text: &[u8]| load::bytes(text).expect("a scene");
        let dark = b"materiau 0 0 0 1 1 1 0 0 0 1\nsphere 0 0 0 1";
        let (white, notes) = SETTING.request(loaded(dark)).expect("a picture");
        assert!(notes.len() == 1 && notes[0].contains("white sky"), "{notes:?}");
        let black = Setting { sky: Some(Sky([0.0; 3])), ..SETTING };
        let (black, notes) = black.request(loaded(dark)).expect("a picture");
        assert_eq!(notes, [""; 0]);
        assert_ne!(white.scene.hash(), black.scene.hash());
        let (_, notes) = SETTING.request(loaded(b"sphere 0 0 0 1")).expect("a picture");
        assert_eq!(notes, [""; 0], "grey without a material shines a little");
        let second = Setting { camera: 1, ..SETTING };
        let wrong = second.request(loaded(b"sphere 0 0 0 1")).expect_err("it has one");
        assert_eq!((wrong.name, wrong.to_string().as_str()), ("camera", "it has 1 cameras; camera 1 counts from 0"));
        let none = Loaded { cameras: Vec::new(), ..loaded(b"sphere 0 0 0 1") };
        assert!(SETTING.request(none.clone()).is_ok());
        assert_eq!(second.request(none).unwrap_err().name, "camera");
    }
}
