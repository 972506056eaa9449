//! The parameter blocks of a tile and of its answer, byte for byte.
//!
//! Both are plain structs, little-endian, without padding: `bincode` with fixed-width integers. What is read here came
//! from outside: every field is checked.

use std::ops::Range;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};

use super::scene::{Camera, Lens};
use super::trace::{Tile, View};
use crate::task::{ContentHash, TaskError};

/// The longest side of an image.
pub const SIDE_MAX: u32 = 1 << 16;

/// The most pixels of a tile: an answer of 12 MiB.
pub const TILE_PIXELS_MAX: u32 = 1 << 20;

/// The most samples of a pixel: beyond, f32 no longer tells their coordinates apart.
pub const SAMPLES_MAX: u32 = 1 << 20;

/// The longest path, in bounces.
pub const DEPTH_MAX: u32 = 1024;

/// The parameters of a tile, 130 bytes:
///
/// | offset | bytes | type | field |
/// |---|---|---|---|
/// | 0 | 32 | u8 x 32 | BLAKE3 hash of the scene, which is the payload |
/// | 32 | 8 | u32 x 2 | width and height of the image, 1 to 65536 |
/// | 40 | 16 | u32 x 4 | the tile: x and y of its upper left pixel, width, height; within the image, at most 2^20 pixels |
/// | 56 | 8 | u32 x 2 | first sample, and the sample after the last, at most 2^20 |
/// | 64 | 8 | u64 | seed |
/// | 72 | 4 | u32 | bounces, 1 to 1024 |
/// | 76 | 1 | u8 | 1 with Russian roulette, else 0 |
/// | 77 | 12 | f32 x 3 | position of the camera |
/// | 89 | 36 | f32 x 9 | its x, y and z axes, of length 1 |
/// | 125 | 1 | u8 | 0 perspective, 1 orthographic |
/// | 126 | 4 | f32 | perspective: tangent of half the vertical angle of view; orthographic: half the height; above 0 |
///
/// The payload is the scene.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct TileParams {
    pub scene: ContentHash,
    pub view: View,
    pub tile: Tile,
    pub samples: Range<u32>,
}

/// The parameters of an answer, 16 bytes:
///
/// | offset | bytes | type | field |
/// |---|---|---|---|
/// | 0 | 8 | u64 | fingerprint of the build that computed it |
/// | 8 | 8 | u64 | rays that were traced |
///
/// The payload is the sum of the samples of each pixel: RGB in f32, little-endian, rows from above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub(super) struct AnswerParams {
    pub fingerprint: u64,
    pub rays: u64,
}

#[derive(bincode::Encode, bincode::Decode)]
struct RawTile {
    scene: [u8; 32],
    size: [u32; 2],
    tile: [u32; 4],
    samples: [u32; 2],
    seed: u64,
    depth: u32,
    roulette: u8,
    position: [f32; 3],
    axes: [[f32; 3]; 3],
    lens: u8,
    lens_size: f32,
}

type Config = Configuration<LittleEndian, Fixint, Limit<256>>;

fn config() -> Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<256>()
}

fn decode<T: bincode::Decode<()>>(what: &str, bytes: &[u8]) -> Result<T, TaskError> {
    match bincode::decode_from_slice(bytes, config()) {
        Ok((raw, read)) if read == bytes.len() => Ok(raw),
        _ => Err(invalid(format!("{} bytes are not the parameters of {what}", bytes.len()))),
    }
}

fn invalid(reason: String) -> TaskError {
    TaskError::Invalid(reason)
}

fn within(name: &str, value: u32, most: u32) -> Result<(), TaskError> {
    if (1..=most).contains(&value) { Ok(()) } else { Err(invalid(format!("{name} is {value}; it is 1 to {most}"))) }
}

impl TileParams {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let TileParams { scene, view, tile, samples } = self;
        let (lens, lens_size) = match view.camera.lens {
            Lens::Perspective { tan_half_y } => (0, tan_half_y),
            Lens::Orthographic { half_height } => (1, half_height),
        };
        let raw = RawTile {
            scene: scene.0,
            size: [view.width, view.height],
            tile: [tile.x, tile.y, tile.width, tile.height],
            samples: [samples.start, samples.end],
            seed: view.seed,
            depth: view.depth,
            roulette: view.roulette.into(),
            position: view.camera.position,
            axes: view.camera.axes,
            lens,
            lens_size,
        };
        bincode::encode_to_vec(raw, config()).expect("a struct of fixed size below the limit always encodes")
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TaskError> {
        let raw: RawTile = decode("a tile", bytes)?;
        let lens = match raw.lens {
            0 => Lens::Perspective { tan_half_y: raw.lens_size },
            1 => Lens::Orthographic { half_height: raw.lens_size },
            code => return Err(invalid(format!("a lens is 0 (perspective) or 1 (orthographic), not {code}"))),
        };
        let roulette = match raw.roulette {
            0 => false,
            1 => true,
            code => return Err(invalid(format!("roulette is 0 or 1, not {code}"))),
        };
        let camera = Camera { position: raw.position, axes: raw.axes, lens };
        let [width, height] = raw.size;
        let view = View { camera, width, height, seed: raw.seed, depth: raw.depth, roulette };
        let [x, y, tile_width, tile_height] = raw.tile;
        let params = TileParams {
            scene: ContentHash(raw.scene),
            view,
            tile: Tile { x, y, width: tile_width, height: tile_height },
            samples: raw.samples[0]..raw.samples[1],
        };
        params.check()?;
        Ok(params)
    }

    /// Whether it can be rendered.
    pub(super) fn check(&self) -> Result<(), TaskError> {
        let TileParams { view, tile, samples, .. } = self;
        within("the width of an image", view.width, SIDE_MAX)?;
        within("the height of an image", view.height, SIDE_MAX)?;
        within("the number of bounces", view.depth, DEPTH_MAX)?;
        let fits = |start: u32, length: u32, side: u32| {
            length >= 1 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        if !fits(tile.x, tile.width, view.width) || !fits(tile.y, tile.height, view.height) {
            return Err(invalid(format!("{tile:?} is not within {} x {} pixels", view.width, view.height)));
        }
        let pixels = u64::from(tile.width) * u64::from(tile.height);
        if pixels > u64::from(TILE_PIXELS_MAX) {
            return Err(invalid(format!("a tile of {pixels} pixels; {TILE_PIXELS_MAX} are allowed")));
        }
        if samples.start >= samples.end || samples.end > SAMPLES_MAX {
            return Err(invalid(format!("samples {samples:?}; they are at least one, and below {SAMPLES_MAX}")));
        }
        check_camera(&view.camera)
    }

    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.tile.width) * u64::from(self.tile.height)
    }
}

/// Whether rays from it are finite.
fn check_camera(camera: &Camera) -> Result<(), TaskError> {
    let size = match camera.lens {
        Lens::Perspective { tan_half_y } => tan_half_y,
        Lens::Orthographic { half_height } => half_height,
    };
    let length = |axis: &[f32; 3]| axis.iter().map(|x| x * x).sum::<f32>().sqrt();
    let is_right = camera.position.iter().all(|x| x.is_finite() && x.abs() < 1e18)
        && camera.axes.iter().all(|axis| (length(axis) - 1.0).abs() < 1e-3)
        && size.is_finite()
        && (1e-9..1e9).contains(&size);
    if is_right { Ok(()) } else { Err(invalid(format!("no camera: {camera:?}"))) }
}

impl AnswerParams {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        bincode::encode_to_vec(self, config()).expect("a struct of fixed size below the limit always encodes")
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, TaskError> {
        decode("an answer to a tile", bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::task::Format;

    fn params() -> TileParams {
        let camera = Camera {
            position: [1.0, 2.0, 3.0],
            axes: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            lens: Lens::Orthographic { half_height: 0.5 },
        };
        TileParams {
            scene: ContentHash([7; 32]),
            view: View { camera, width: 1280, height: 720, seed: 0x0102_0304_0506_0708, depth: 8, roulette: true },
            tile: Tile { x: 64, y: 128, width: 32, height: 16 },
            samples: 16..64,
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = params().to_bytes();
        assert_eq!(bytes.len(), 130);
        assert_eq!(bytes[..32], [7; 32]);
        assert_eq!(bytes[32..40], [0, 5, 0, 0, 0xd0, 2, 0, 0]);
        assert_eq!(bytes[40..56], [64, 0, 0, 0, 128, 0, 0, 0, 32, 0, 0, 0, 16, 0, 0, 0]);
        assert_eq!(bytes[56..64], [16, 0, 0, 0, 64, 0, 0, 0]);
        assert_eq!(bytes[64..77], [8, 7, 6, 5, 4, 3, 2, 1, 8, 0, 0, 0, 1]);
        assert_eq!(bytes[77..81], 1.0_f32.to_le_bytes());
        assert_eq!(bytes[125..], [1, 0, 0, 0, 0x3f]);
        assert_eq!(TileParams::from_bytes(&bytes), Ok(params()));
        let said = super::super::describe(Format::Binary, &bytes);
        let expected = "tile 32 x 16 at (64, 128) of 1280 x 720, samples 16 to 64, scene 07070707";
        assert_eq!(said.as_deref(), Some(expected));
        let answer = AnswerParams { fingerprint: 1, rays: 2 };
        assert_eq!(answer.to_bytes(), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(AnswerParams::from_bytes(&answer.to_bytes()), Ok(answer));
    }

    #[test]
    fn what_cannot_be_rendered_is_refused() {
        type Change = fn(&mut TileParams);
        let wrong: [(&str, Change); 9] = [
            ("width", |p| p.view.width = 0),
            ("height", |p| p.view.height = SIDE_MAX + 1),
            ("bounces", |p| p.view.depth = 0),
            ("not within", |p| p.tile.x = 1280),
            ("not within", |p| (p.tile.y, p.tile.height) = (u32::MAX, 2)),
            ("not within", |p| p.tile.width = 0),
            ("samples", |p| p.samples = 3..3),
            ("samples", |p| p.samples.end = SAMPLES_MAX + 1),
            ("no camera", |p| p.view.camera.axes[1][1] = f32::NAN),
        ];
        for (reason, change) in wrong {
            let mut params = params();
            change(&mut params);
            let error = TileParams::from_bytes(&params.to_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        let mut huge = params();
        (huge.view.width, huge.view.height) = (SIDE_MAX, SIDE_MAX);
        huge.tile = Tile { x: 0, y: 0, width: SIDE_MAX, height: SIDE_MAX };
        assert!(huge.check().unwrap_err().to_string().contains("pixels"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parameters_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..140), at in 0..130usize, byte: u8
        ) {
            let _ = AnswerParams::from_bytes(&bytes);
            let _ = TileParams::from_bytes(&bytes);
            let mut changed = params().to_bytes();
            changed[at] = byte;
            if let Ok(read) = TileParams::from_bytes(&changed) {
                prop_assert_eq!(read.to_bytes(), changed);
            }
        }
    }
}
