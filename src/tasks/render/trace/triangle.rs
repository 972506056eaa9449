//! Four triangles against a ray at once (Möller & Trumbore, "Fast, Minimum Storage Ray/Triangle Intersection", 1997).
//!
//! Edges are computed once, not per ray, so two triangles round their common edge each in its own way, and a ray that
//! aims exactly at it might pass between them: one in ten. So each reaches over its edges, by [`SEAM`], and less than
//! one in 200 does; of rays that are not aimed at edges, none in 10^5 was seen to.

use glam::{Vec3, Vec4};

use super::bvh::{Ray, WIDTH};

/// How far a triangle reaches beyond its edges, as a share of its size: what rounds at a distance of some twenty times
/// that.
const SEAM: f32 = 16.0 * f32::EPSILON;

/// Triangles of a leaf, a lane each. Unused lanes are of zero size and never hit.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(super) struct TrianglePacket {
    corner: [[f32; 4]; 3],
    /// From the first vertex to the second,
    edge1: [[f32; 4]; 3],
    /// and to the third.
    edge2: [[f32; 4]; 3],
    /// Indices into the scene's triangles
    pub(super) triangle: [u32; 4],
    /// and materials.
    pub(super) material: [u32; 4],
}

/// Where a ray hits a triangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TriangleHit {
    /// Index of the packet
    pub(super) packet: u32,
    /// and the lane in it.
    pub(super) lane: u32,
    /// Barycentric coordinate of the second vertex,
    pub(super) u: f32,
    /// and of the third.
    pub(super) v: f32,
}

impl TrianglePacket {
    /// Of at most four triangles: their corners, index and material.
    pub(super) fn new(triangles: impl Iterator<Item = ([Vec3; 3], u32, u32)>) -> Self {
        let zero = [[0.0; 4]; 3];
        let mut packet = TrianglePacket { corner: zero, edge1: zero, edge2: zero, triangle: [0; 4], material: [0; 4] };
        for (lane, ([a, b, c], triangle, material)) in triangles.take(WIDTH).enumerate() {
            for axis in 0..3 {
                packet.corner[axis][lane] = a[axis];
                packet.edge1[axis][lane] = b[axis] - a[axis];
                packet.edge2[axis][lane] = c[axis] - a[axis];
            }
            packet.triangle[lane] = triangle;
            packet.material[lane] = material;
        }
        packet
    }

    /// First corner and the two edges from it, of a lane.
    #[inline(always)]
    pub(super) fn lane(&self, lane: usize) -> [Vec3; 3] {
        [&self.corner, &self.edge1, &self.edge2].map(|[x, y, z]| Vec3::new(x[lane & 3], y[lane & 3], z[lane & 3]))
    }

    /// Lanes hit between 0 and `limit`, a bit each; distances and barycentric coordinates.
    #[inline(always)]
    fn test(&self, ray: &Ray, limit: f32) -> (u32, Vec4, Vec4, Vec4) {
        let load = |rows: &[[f32; 4]; 3]| rows.map(Vec4::from_array);
        let splat = |v: Vec3| [Vec4::splat(v.x), Vec4::splat(v.y), Vec4::splat(v.z)];
        let (edge1, edge2, corner) = (load(&self.edge1), load(&self.edge2), load(&self.corner));
        let (origin, direction) = (splat(ray.origin), splat(ray.direction));
        let p = cross(direction, edge2);
        let inverse = Vec4::ONE / dot(edge1, p);
        let to = [origin[0] - corner[0], origin[1] - corner[1], origin[2] - corner[2]];
        let q = cross(to, edge1);
        // A determinant of 0 makes these NaN or infinite, which no comparison lets pass.
        let u = dot(to, p) * inverse;
        let v = dot(direction, q) * inverse;
        let t = dot(edge2, q) * inverse;
        let inside = u.cmpge(Vec4::splat(-SEAM)) & v.cmpge(Vec4::splat(-SEAM)) & (u + v).cmple(Vec4::splat(1.0 + SEAM));
        let hits = inside & t.cmpgt(Vec4::ZERO) & t.cmplt(Vec4::splat(limit));
        (hits.bitmask(), t, u, v)
    }

    /// Lowers `limit` to the nearest hit before it, and says where that is.
    #[inline(always)]
    pub(super) fn closest(&self, packet: usize, ray: &Ray, limit: &mut f32, hit: &mut Option<TriangleHit>) {
        let (mut hits, t, u, v) = self.test(ray, *limit);
        if hits == 0 {
            return;
        }
        let (t, u, v) = (t.to_array(), u.to_array(), v.to_array());
        while hits != 0 {
            let lane = hits.trailing_zeros() as usize & 3;
            hits &= hits - 1;
            if t[lane] < *limit {
                *limit = t[lane];
                *hit = Some(TriangleHit { packet: packet as u32, lane: lane as u32, u: u[lane], v: v[lane] });
            }
        }
    }

    /// Whether any is hit before `limit`.
    #[inline(always)]
    pub(super) fn any(&self, ray: &Ray, limit: f32) -> bool {
        self.test(ray, limit).0 != 0
    }
}

#[inline(always)]
fn cross(a: [Vec4; 3], b: [Vec4; 3]) -> [Vec4; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[inline(always)]
fn dot(a: [Vec4; 3], b: [Vec4; 3]) -> Vec4 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
