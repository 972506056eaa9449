//! The options of `boss render`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use super::PriorityArg;
use crate::boss::Submit;
use crate::command::render::{Curve, Input, Setting, Size, Sky, Tone};

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
            setting: Setting {
                size: self.size,
                samples: self.spp,
                seed: self.seed,
                tile: self.tile,
                depth: self.depth,
                camera: self.camera,
                sky: self.sky,
            },
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
