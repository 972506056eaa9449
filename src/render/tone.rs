//! From linear radiance to the 8 bits of a screen. With `libm`, so that the same numbers are the same bytes everywhere.

/// What becomes of radiance that a screen can't show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Curve {
    /// Above 1 it is cut off.
    #[default]
    None,
    /// It is rolled off as by film: Narkowicz's fit of the ACES curve ("ACES Filmic Tone Mapping Curve", 2015).
    Filmic,
}

/// How a picture is shown.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Tone {
    /// In stops: 1 is twice as bright.
    pub exposure: f32,
    /// Which curve.
    pub curve: Curve,
}

impl Tone {
    /// Linear RGB as sRGB of 8 bits a channel.
    pub fn bytes(self, means: &[f32]) -> Vec<u8> {
        let gain = libm::exp2f(self.exposure);
        means.iter().map(|mean| srgb(self.curve.of(mean * gain))).collect()
    }
}

impl Curve {
    fn of(self, x: f32) -> f32 {
        match self {
            Curve::None => x,
            Curve::Filmic => (x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14),
        }
    }
}

/// IEC 61966-2-1.
fn srgb(linear: f32) -> u8 {
    let encoded = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * libm::powf(linear, 1.0 / 2.4) - 0.055 };
    // The conversion saturates.
    (encoded * 255.0 + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_that_of_the_standard() {
        let tone = Tone::default();
        assert_eq!(tone.bytes(&[0.0, 1.0, 7.0, f32::INFINITY]), [0, 255, 255, 255]);
        // The values of the standard for a grey of 18 % and of 50 %.
        assert_eq!(tone.bytes(&[0.18, 0.5, 0.002]), [118, 188, 7]);
        assert_eq!(Tone { exposure: 1.0, ..tone }.bytes(&[0.09]), [118]);
    }

    #[test]
    fn film_rolls_off_and_never_turns_back() {
        let tone = Tone { curve: Curve::Filmic, ..Tone::default() };
        let ramp: Vec<f32> = (0..1000).map(|i| i as f32 * 0.01).collect();
        let bytes = tone.bytes(&ramp);
        assert!(bytes.is_sorted() && bytes[100] < 240 && bytes[999] > 250, "{} {}", bytes[100], bytes[999]);
    }
}
