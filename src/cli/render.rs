//! The options of `boss render`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use super::PriorityArg;
use crate::boss::Submit;
use crate::command::render::{Curve, Input, Tone};

/// `boss render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// The scene: .gltf, .glb, .obj, or .txt in the simple format
    #[arg(value_name = "SCENE")]
    pub scene: PathBuf,
    /// Where the picture goes: .png (sRGB) or .exr (linear)
    #[arg(short, long, env = "RABBITRY_OUTPUT", value_name = "PICTURE")]
    pub output: PathBuf,
    /// Its size in pixels
    #[arg(long, env = "RABBITRY_SIZE", value_name = "WxH", default_value = "1280x720")]
    pub size: Size,
    /// Samples of each pixel: four times as many are half the noise
    #[arg(long, env = "RABBITRY_SPP", value_name = "N", default_value_t = 64)]
    pub spp: u32,
    /// Seed of the random numbers: the same seed, the same picture to the bit
    #[arg(long, env = "RABBITRY_SEED", value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Pixels across and down the tiles that workers take
    #[arg(long, env = "RABBITRY_TILE", value_name = "PIXELS", default_value_t = 64)]
    pub tile: u32,
    /// Bounces of light at most: 1 is direct light alone
    #[arg(long, env = "RABBITRY_DEPTH", value_name = "N", default_value_t = 8)]
    pub depth: u32,
    /// Which of the scene's cameras, from 0; one is made up where there is none
    #[arg(long, env = "RABBITRY_CAMERA", value_name = "I", default_value_t = 0)]
    pub camera: usize,
    /// Light from all around where nothing is, as one number or as R,G,B [default: that of the scene; 1 if it has no light]
    #[arg(long, env = "RABBITRY_SKY", value_name = "RADIANCE")]
    pub sky: Option<Sky>,
    /// Brightness of a PNG in stops: 1 is twice as bright
    #[arg(long, env = "RABBITRY_EXPOSURE", value_name = "STOPS", default_value_t = 0.0, allow_negative_numbers = true)]
    pub exposure: f32,
    /// What becomes of highlights in a PNG
    #[arg(long, env = "RABBITRY_TONE", default_value = "none")]
    pub tone: ToneArg,
    /// Write the picture as it comes, every second
    #[arg(long, env = "RABBITRY_PREVIEW", value_parser = FalseyValueParser::new())]
    pub preview: bool,
    /// Go on with PICTURE.partial, which an interrupted run has left
    #[arg(long, env = "RABBITRY_RESUME", value_parser = FalseyValueParser::new())]
    pub resume: bool,
    /// Which tasks workers take first
    #[arg(long, env = "RABBITRY_PRIORITY", default_value = "normal")]
    pub priority: PriorityArg,
    /// Print one JSON object on stdout and nothing else there
    #[arg(long, env = "RABBITRY_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

impl RenderArgs {
    /// What to render.
    pub fn input(&self) -> Input {
        Input {
            scene: self.scene.clone(),
            output: self.output.clone(),
            size: (self.size.width, self.size.height),
            samples: self.spp,
            seed: self.seed,
            tile: self.tile,
            depth: self.depth,
            camera: self.camera,
            sky: self.sky.map(|sky| sky.0),
            tone: Tone { exposure: self.exposure, curve: self.tone.curve() },
            preview: self.preview,
            resume: self.resume,
        }
    }

    /// How each tile is sent.
    pub fn submit(&self) -> Submit {
        Submit { priority: self.priority.level(), ..Submit::default() }
    }
}

/// `--size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    width: u32,
    height: u32,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides =
            text.split_once(['x', 'X']).and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
        let (width, height) = sides.ok_or("a size is WIDTHxHEIGHT in pixels, such as 1280x720")?;
        Ok(Size { width, height })
    }
}

/// `--sky`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sky([f32; 3]);

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

/// `--tone`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ToneArg {
    /// Cut off
    None,
    /// Rolled off as by film
    Filmic,
}

impl ToneArg {
    fn curve(self) -> Curve {
        match self {
            ToneArg::None => Curve::None,
            ToneArg::Filmic => Curve::Filmic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_skies_are_read_or_refused() {
        assert_eq!("1280x720".parse(), Ok(Size { width: 1280, height: 720 }));
        for wrong in ["", "1280", "x", "1280x", "-1x5", "1280 x 720", "1.5x2"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong:?}");
        }
        assert_eq!("0.5".parse(), Ok(Sky([0.5; 3])));
        assert_eq!("0.5, 0,1e3".parse(), Ok(Sky([0.5, 0.0, 1000.0])));
        for wrong in ["", "1,2", "1,2,3,4", "-1", "nan", "inf", "white"] {
            assert!(wrong.parse::<Sky>().is_err(), "{wrong:?}");
        }
    }
}
