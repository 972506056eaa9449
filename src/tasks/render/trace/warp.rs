//! From the unit square to discs, hemispheres and cones.

use glam::Vec3;

/// 1 / pi.
pub(super) const INV_PI: f32 = std::f32::consts::FRAC_1_PI;

/// Cosine and sine of `turn` times 2 pi, for 0..=1, within 2e-7: Taylor's polynomials on an eighth of a turn. Plain
/// products and sums, the same bits everywhere and faster than a library's.
#[inline(always)]
pub(super) fn circle(turn: f32) -> [f32; 2] {
    let quarter = (turn * 4.0 + 0.5) as u32;
    let x = (turn * 4.0 - quarter as f32) * std::f32::consts::FRAC_PI_2;
    let s = x * x;
    let sin = x * (1.0 + s * (-1.0 / 6.0 + s * (1.0 / 120.0 + s * (-1.0 / 5040.0 + s * (1.0 / 362_880.0)))));
    let cos = 1.0 + s * (-0.5 + s * (1.0 / 24.0 + s * (-1.0 / 720.0 + s * (1.0 / 40_320.0))));
    // Without branches: nobody could predict them.
    let (cos, sin) = (cos.to_bits(), sin.to_bits());
    let other = (cos ^ sin) & (quarter & 1).wrapping_neg();
    let (cos, sin) = (cos ^ other, sin ^ other);
    let negative = [(quarter + 1) & 2, quarter & 2];
    [f32::from_bits(cos ^ negative[0] << 30), f32::from_bits(sin ^ negative[1] << 30)]
}

/// A direction about z with density cosine / pi.
#[inline(always)]
pub(super) fn cosine_hemisphere([u, v]: [f32; 2]) -> Vec3 {
    let [x, y] = circle(v);
    let r = u.sqrt();
    Vec3::new(x * r, y * r, (1.0 - u).sqrt())
}

/// A direction about z of a uniform cone; `cap` is 1 - the cosine of its half angle. The whole sphere at 2.
#[inline(always)]
pub(super) fn uniform_cone([u, v]: [f32; 2], cap: f32) -> Vec3 {
    let [x, y] = circle(v);
    let h = u * cap;
    let r = (h * (2.0 - h)).max(0.0).sqrt();
    Vec3::new(x * r, y * r, 1.0 - h)
}

/// Right-handed axes with `z`, of length 1, as the third (Duff et al., "Building an Orthonormal Basis, Revisited",
/// 2017).
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    x: Vec3,
    y: Vec3,
    z: Vec3,
}

impl Frame {
    #[inline(always)]
    pub(super) fn new(z: Vec3) -> Self {
        let sign = 1.0_f32.copysign(z.z);
        let a = -1.0 / (sign + z.z);
        let b = z.x * z.y * a;
        let x = Vec3::new(1.0 + sign * z.x * z.x * a, sign * b, -sign * z.x);
        let y = Vec3::new(b, sign + z.y * z.y * a, -z.y);
        Frame { x, y, z }
    }

    #[inline(always)]
    pub(super) fn to_world(self, v: Vec3) -> Vec3 {
        self.x * v.x + self.y * v.y + self.z * v.z
    }

    #[inline(always)]
    pub(super) fn to_local(self, v: Vec3) -> Vec3 {
        Vec3::new(v.dot(self.x), v.dot(self.y), v.dot(self.z))
    }
}
