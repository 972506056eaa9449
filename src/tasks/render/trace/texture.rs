//! Texture look-up: bilinear, the colours decoded from sRGB before they are mixed.

use std::sync::OnceLock;

use glam::Vec3;

use super::super::scene::{Texture, Wrap};

/// What the bytes of a texture stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Colour.
    Srgb,
    /// Numbers, 255 is 1.
    Linear,
}

/// The values of the 256 bytes.
type Table = [f32; 256];

impl Encoding {
    fn table(self) -> &'static Table {
        static SRGB: OnceLock<Table> = OnceLock::new();
        static LINEAR: OnceLock<Table> = OnceLock::new();
        match self {
            Encoding::Srgb => SRGB.get_or_init(|| std::array::from_fn(|i| from_srgb(i as f64 / 255.0) as f32)),
            Encoding::Linear => LINEAR.get_or_init(|| std::array::from_fn(|i| (i as f64 / 255.0) as f32)),
        }
    }
}

/// IEC 61966-2-1.
pub(super) fn from_srgb(value: f64) -> f64 {
    if value <= 0.04045 { value / 12.92 } else { libm::pow((value + 0.055) / 1.055, 2.4) }
}

/// A texture's RGB at `uv`.
pub(super) fn look_up(texture: &Texture, encoding: Encoding, uv: [f32; 2]) -> Vec3 {
    let table = encoding.table();
    let [(x0, x1, across), (y0, y1, down)] =
        [neighbours(uv[0], texture.width, texture.wrap[0]), neighbours(uv[1], texture.height, texture.wrap[1])];
    let texel = |x: u32, y: u32| decode(table, texture.texels[y as usize * texture.width as usize + x as usize]);
    let above = mix(texel(x0, y0), texel(x1, y0), across);
    let below = mix(texel(x0, y1), texel(x1, y1), across);
    mix(above, below, down)
}

/// The average of a texture's RGB.
pub(super) fn average(texture: &Texture, encoding: Encoding) -> Vec3 {
    let table = encoding.table();
    let mut counts = vec![[0_u64; 256]; 3];
    for texel in &texture.texels {
        for (count, &byte) in counts.iter_mut().zip(texel) {
            count[usize::from(byte)] += 1;
        }
    }
    let sum = |c: usize| counts[c].iter().zip(table).map(|(&n, &v)| n as f64 * f64::from(v)).sum::<f64>();
    let texels = texture.texels.len().max(1) as f64;
    Vec3::new((sum(0) / texels) as f32, (sum(1) / texels) as f32, (sum(2) / texels) as f32)
}

fn decode(table: &Table, [r, g, b, _]: [u8; 4]) -> Vec3 {
    Vec3::new(table[usize::from(r)], table[usize::from(g)], table[usize::from(b)])
}

fn mix(a: Vec3, b: Vec3, share: f32) -> Vec3 {
    a + (b - a) * share
}

/// The texels on both sides of a coordinate, and the share of the second.
fn neighbours(coordinate: f32, size: u32, wrap: Wrap) -> (u32, u32, f32) {
    // Whole turns are taken off first: f32 has no fractions far out. Not finite counts as 0.
    let turns = match wrap {
        Wrap::Repeat => coordinate - coordinate.floor(),
        Wrap::Mirror => coordinate - 2.0 * (coordinate * 0.5).floor(),
        Wrap::Clamp => coordinate.clamp(-1.0, 2.0),
    };
    let at = if turns.is_finite() { turns * size as f32 - 0.5 } else { 0.0 };
    let floor = at.floor();
    let first = floor as i64;
    (wrapped(first, size, wrap), wrapped(first + 1, size, wrap), at - floor)
}

fn wrapped(index: i64, size: u32, wrap: Wrap) -> u32 {
    let n = i64::from(size);
    let index = match wrap {
        Wrap::Repeat => index.rem_euclid(n),
        Wrap::Mirror => {
            let twice = index.rem_euclid(2 * n);
            twice.min(2 * n - 1 - twice)
        }
        Wrap::Clamp => index.clamp(0, n - 1),
    };
    index as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(wrap: Wrap) -> Texture {
        let texels = [0, 85, 170, 255].map(|v| [v, 0, 255, 255]).to_vec();
        Texture { width: 4, height: 1, wrap: [wrap; 2], texels }
    }

    #[test]
    fn centers_of_texels_have_their_values_and_what_is_between_is_mixed() {
        let texture = ramp(Wrap::Repeat);
        let at = |u: f32| look_up(&texture, Encoding::Linear, [u, 0.3]).x;
        assert!((at(0.125) - 0.0).abs() < 1e-6 && (at(0.375) - 1.0 / 3.0).abs() < 1e-6);
        assert!((at(0.25) - 1.0 / 6.0).abs() < 1e-6);
        assert!((at(0.0) - 0.5).abs() < 1e-6, "between the last and the first");
    }

    #[test]
    fn beyond_the_edges_is_what_the_wrap_mode_says() {
        let at = |wrap, u: f32| look_up(&ramp(wrap), Encoding::Linear, [u, 0.5]).x;
        for i in 0..40 {
            let u = i as f32 / 40.0;
            assert!((at(Wrap::Repeat, u) - at(Wrap::Repeat, u - 3.0)).abs() < 1e-5);
            assert!((at(Wrap::Mirror, u) - at(Wrap::Mirror, -u)).abs() < 1e-5);
            assert!((at(Wrap::Mirror, u) - at(Wrap::Mirror, u + 2.0)).abs() < 1e-5);
        }
        assert_eq!([at(Wrap::Clamp, -7.0), at(Wrap::Clamp, 1e30)], [0.0, 1.0]);
        assert!(at(Wrap::Repeat, f32::NAN).is_finite() && at(Wrap::Mirror, f32::INFINITY).is_finite());
    }

    #[test]
    fn colours_are_decoded_from_srgb() {
        let texture = Texture { width: 1, height: 1, wrap: [Wrap::Repeat; 2], texels: vec![[188, 0, 255, 0]] };
        let colour = look_up(&texture, Encoding::Srgb, [0.7, 0.2]);
        assert!((colour - Vec3::new(0.502_886_5, 0.0, 1.0)).abs().max_element() < 1e-6, "{colour}");
        assert_eq!(average(&texture, Encoding::Srgb), colour);
    }
}
