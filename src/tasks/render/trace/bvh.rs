//! A bounding volume hierarchy of four boxes a node, over leaves of up to four primitives.
//!
//! obvhs builds the binary tree (PLOC: Meister & Bittner 2018, and reinsertion: Meister & Bittner 2018), which is then
//! collapsed to four children a node, whose boxes are kept in f32 and tested at once. Why not obvhs' own `CwBvh`: it
//! ignores whatever is closer than 1e-4, however small the scene, and with baseline SSE2 its bounds of 8 bits take long
//! to unpack: camera rays into a quarter of a million triangles took 0.22 us each for its traversal alone, 0.20 us here
//! with all that is around it.

use glam::{Vec3, Vec3A, Vec4};
use obvhs::aabb::Aabb;
use obvhs::bvh2::Bvh2;
use obvhs::bvh2::leaf_collapser::collapse;
use obvhs::bvh2::reinsertion::ReinsertionOptimizer;
use obvhs::ploc::{PlocBuilder, PlocSearchDistance, SortPrecision};

/// Primitives a leaf at most: what is tested at once.
pub(super) const WIDTH: usize = 4;
/// Marks a child that is a leaf; the rest of the number is the leaf's.
const LEAF: u32 = 1 << 31;
/// Nodes that can wait to be visited. A tree that needs more is rebuilt.
const STACK: usize = 128;
/// Reinserted nodes, as a share of all.
const REINSERTED: f32 = 0.02;
/// What a node costs when four primitives are tested at the price of one or two.
const TRAVERSAL_COST: f32 = 3.0;
/// Lengthens the way through a box by more than the rounding of its planes' distances (Ize, "Robust BVH Ray Traversal",
/// JCGT 2013), so that what touches the ray is never passed over.
const SLACK: f32 = 1.0 + 4.0 * f32::EPSILON;

/// Planes of four boxes: x, y, z of the lower ones, the children, x, y, z of the upper ones. Two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Node {
    planes: [[f32; 4]; 8],
}

/// A ray, and what its tests against boxes need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ray {
    pub(super) origin: Vec3,
    /// Of any length: distances count in it.
    pub(super) direction: Vec3,
    inverse: Vec3,
    /// Rows of [`Node::planes`] where the ray enters.
    near: [usize; 3],
}

impl Ray {
    #[inline(always)]
    pub(super) fn new(origin: Vec3, direction: Vec3) -> Self {
        // Finite, so that no plane's distance is 0 * infinity.
        let finite = |d: f32| if d.abs() < 1e-18 { 1e-18_f32.copysign(d) } else { d };
        let safe = Vec4::new(finite(direction.x), finite(direction.y), finite(direction.z), 1.0);
        let [x, y, z, _] = (Vec4::ONE / safe).to_array();
        let inverse = Vec3::new(x, y, z);
        let near = |d: f32, axis: usize| if d.is_sign_negative() { axis + 4 } else { axis };
        let near = [near(inverse.x, 0), near(inverse.y, 1), near(inverse.z, 2)];
        Ray { origin, direction, inverse, near }
    }
}

/// Nodes that wait to be visited, and how far they are. One serves all rays of a thread.
pub(super) struct Stack([(u32, f32); STACK]);

impl Default for Stack {
    fn default() -> Self {
        Stack([(0, 0.0); STACK])
    }
}

/// The tree.
#[derive(Debug, Default)]
pub(super) struct Bvh {
    nodes: Vec<Node>,
    root: Option<u32>,
}

impl Bvh {
    /// A tree of `boxes`, which are finite; `leaf` is given the primitives of each leaf, 1..=[`WIDTH`], leaf 0 first.
    pub(super) fn new(boxes: &[Aabb], mut leaf: impl FnMut(&[u32])) -> Self {
        if boxes.is_empty() {
            return Bvh::default();
        }
        let indices: Vec<u32> = (0..boxes.len() as u32).collect();
        let mut binary = PlocBuilder::with_capacity(boxes.len()).build(
            PlocSearchDistance::Low,
            boxes,
            indices,
            SortPrecision::U64,
            2,
        );
        ReinsertionOptimizer::default().run(&mut binary, REINSERTED, None);
        collapse(&mut binary, WIDTH as u32, TRAVERSAL_COST);
        let (nodes, root, depth) = widen(&binary);
        let (nodes, root, binary) = if (WIDTH - 1) * depth < STACK {
            (nodes, root, binary)
        } else {
            let binary = halved(boxes);
            let (nodes, root, _) = widen(&binary);
            (nodes, root, binary)
        };
        let mut bvh = Bvh { nodes, root: Some(root) };
        bvh.number_leaves(&binary, &mut leaf);
        bvh
    }

    /// Replaces the leaves' nodes in the binary tree by their numbers.
    fn number_leaves(&mut self, binary: &Bvh2, leaf: &mut impl FnMut(&[u32])) {
        let mut count = 0;
        let mut number = |child: u32| {
            let node = &binary.nodes[(child & !LEAF) as usize];
            let first = node.first_index as usize;
            leaf(&binary.primitive_indices[first..first + node.prim_count as usize]);
            count += 1;
            LEAF | (count - 1)
        };
        if let Some(root) = &mut self.root
            && *root & LEAF != 0
        {
            *root = number(*root);
        }
        for child in self.nodes.iter_mut().flat_map(|node| &mut node.planes[3]) {
            // Of the unused ones, no bit is set.
            if child.to_bits() & LEAF != 0 {
                *child = f32::from_bits(number(child.to_bits()));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        size_of_val(self.nodes.as_slice()) as u64
    }

    /// Visits leaves that the ray may hit before `limit`, near ones first; `leaf` lowers the limit.
    #[inline(always)]
    pub(super) fn closest(&self, ray: &Ray, limit: &mut f32, stack: &mut Stack, mut leaf: impl FnMut(usize, &mut f32)) {
        let Some(mut current) = self.root else { return };
        let mut waiting = 0;
        loop {
            if current & LEAF != 0 {
                leaf((current & !LEAF) as usize, limit);
            } else {
                let node = &self.nodes[current as usize];
                let (mut hits, near) = node.test(ray, *limit);
                if hits != 0 {
                    // The nearest is visited next, the others wait, the farthest longest.
                    let mut i = hits.trailing_zeros() as usize & 3;
                    let first = waiting;
                    hits &= hits - 1;
                    while hits != 0 {
                        let mut other = hits.trailing_zeros() as usize & 3;
                        hits &= hits - 1;
                        if near[other] < near[i] {
                            (i, other) = (other, i);
                        }
                        let mut at = waiting;
                        while at > first && stack.0[(at - 1) % STACK].1 < near[other] {
                            stack.0[at % STACK] = stack.0[(at - 1) % STACK];
                            at -= 1;
                        }
                        stack.0[at % STACK] = (node.planes[3][other].to_bits(), near[other]);
                        waiting += 1;
                    }
                    current = node.planes[3][i].to_bits();
                    continue;
                }
            }
            loop {
                if waiting == 0 {
                    return;
                }
                waiting -= 1;
                let (next, distance) = stack.0[waiting % STACK];
                if distance <= *limit {
                    current = next;
                    break;
                }
            }
        }
    }

    /// Whether `leaf` says so of any leaf that the ray may hit before `limit`.
    #[inline(always)]
    pub(super) fn any(&self, ray: &Ray, limit: f32, stack: &mut Stack, mut leaf: impl FnMut(usize) -> bool) -> bool {
        let Some(mut current) = self.root else { return false };
        let mut waiting = 0;
        loop {
            if current & LEAF != 0 {
                if leaf((current & !LEAF) as usize) {
                    return true;
                }
            } else {
                let node = &self.nodes[current as usize];
                let (mut hits, _) = node.test(ray, limit);
                if hits != 0 {
                    let next = node.planes[3][hits.trailing_zeros() as usize & 3].to_bits();
                    hits &= hits - 1;
                    while hits != 0 {
                        let i = hits.trailing_zeros() as usize & 3;
                        hits &= hits - 1;
                        stack.0[waiting % STACK].0 = node.planes[3][i].to_bits();
                        waiting += 1;
                    }
                    current = next;
                    continue;
                }
            }
            if waiting == 0 {
                return false;
            }
            waiting -= 1;
            current = stack.0[waiting % STACK].0;
        }
    }
}

impl Node {
    const EMPTY: Node = {
        let (low, high) = ([f32::INFINITY; 4], [f32::NEG_INFINITY; 4]);
        Node { planes: [low, low, low, [0.0; 4], high, high, high, [0.0; 4]] }
    };

    /// Children the ray enters before `limit`, a bit each, and where.
    #[inline(always)]
    fn test(&self, ray: &Ray, limit: f32) -> (u32, [f32; 4]) {
        let row = |i: usize| Vec4::from_array(self.planes[i & 7]);
        let [x, y, z] = ray.near;
        let (ox, oy, oz) = (Vec4::splat(ray.origin.x), Vec4::splat(ray.origin.y), Vec4::splat(ray.origin.z));
        let (ix, iy, iz) = (Vec4::splat(ray.inverse.x), Vec4::splat(ray.inverse.y), Vec4::splat(ray.inverse.z));
        let near_x = (row(x) - ox) * ix;
        let near_y = (row(y) - oy) * iy;
        let near_z = (row(z) - oz) * iz;
        let far_x = (row(x ^ 4) - ox) * ix;
        let far_y = (row(y ^ 4) - oy) * iy;
        let far_z = (row(z ^ 4) - oz) * iz;
        let near = near_x.max(near_y).max(near_z.max(Vec4::ZERO));
        let far = (far_x.min(far_y).min(far_z) * SLACK).min(Vec4::splat(limit));
        (near.cmple(far).bitmask(), near.to_array())
    }
}

/// Collapses a binary tree: a node takes over its grandchildren, those of the largest child first, until it has four.
/// Returns the nodes, the root and the depth. Leaves are left as [`LEAF`] and their node in the binary tree.
fn widen(binary: &Bvh2) -> (Vec<Node>, u32, usize) {
    let reference = |i: usize| LEAF | i as u32;
    if binary.nodes[0].is_leaf() {
        return (Vec::new(), reference(0), 1);
    }
    let mut nodes = vec![Node::EMPTY];
    let mut depth = 1;
    // A node of the binary tree, the wide one that it becomes, and the latter's level.
    let mut todo = vec![(0_usize, 0_usize, 1_usize)];
    while let Some((from, to, level)) = todo.pop() {
        depth = depth.max(level);
        let mut children = [0_usize; 4];
        let first = binary.nodes[from].first_index as usize;
        (children[0], children[1]) = (first, first + 1);
        let mut count = 2;
        while count < 4 {
            let area = |i: usize| binary.nodes[i].aabb().half_area();
            let inner = (0..count).filter(|&c| !binary.nodes[children[c]].is_leaf());
            let Some(widest) = inner.max_by(|&a, &b| area(children[a]).total_cmp(&area(children[b]))) else { break };
            let first = binary.nodes[children[widest]].first_index as usize;
            (children[widest], children[count]) = (first, first + 1);
            count += 1;
        }
        for (slot, &child) in children[..count].iter().enumerate() {
            let node = &binary.nodes[child];
            let reference = if node.is_leaf() {
                reference(child)
            } else {
                nodes.push(Node::EMPTY);
                todo.push((child, nodes.len() - 1, level + 1));
                nodes.len() as u32 - 1
            };
            let wide = &mut nodes[to];
            let Aabb { min, max } = *node.aabb();
            wide.planes[3][slot] = f32::from_bits(reference);
            for axis in 0..3 {
                wide.planes[axis][slot] = min[axis];
                wide.planes[axis + 4][slot] = max[axis];
            }
        }
    }
    (nodes, 0, depth)
}

/// A balanced tree: halves of the order along the longest axis. For the rare input that makes the other one too deep.
fn halved(boxes: &[Aabb]) -> Bvh2 {
    let mut indices: Vec<u32> = (0..boxes.len() as u32).collect();
    let union = |indices: &[u32]| indices.iter().fold(Aabb::INVALID, |sum, &i| sum.union(&boxes[i as usize]));
    let mut binary = Bvh2::default();
    binary.nodes.push(obvhs::bvh2::node::Bvh2Node::new(union(&indices), 0, 0));
    let mut todo = vec![(0_usize, 0_usize, boxes.len())];
    while let Some((node, from, to)) = todo.pop() {
        if to - from <= WIDTH {
            binary.nodes[node].prim_count = (to - from) as u32;
            binary.nodes[node].first_index = from as u32;
            continue;
        }
        let center = |i: u32| boxes[i as usize].center();
        let (low, high) = indices[from..to]
            .iter()
            .fold((Vec3A::MAX, Vec3A::MIN), |(low, high), &i| (low.min(center(i)), high.max(center(i))));
        let axis = Aabb::new(low, high).largest_axis();
        indices[from..to].sort_unstable_by(|&a, &b| center(a)[axis].total_cmp(&center(b)[axis]).then(a.cmp(&b)));
        let middle = from + (to - from) / 2;
        let children = binary.nodes.len();
        binary.nodes[node].make_inner(children as u32);
        for (from, to) in [(from, middle), (middle, to)] {
            todo.push((binary.nodes.len(), from, to));
            binary.nodes.push(obvhs::bvh2::node::Bvh2Node::new(union(&indices[from..to]), 0, 0));
        }
    }
    binary.primitive_indices = indices;
    binary
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves of a tree, and how often each primitive is in one.
    fn check(binary: &Bvh2, boxes: &[Aabb]) -> usize {
        let (nodes, root, depth) = widen(binary);
        let mut bvh = Bvh { nodes, root: Some(root) };
        let mut seen = vec![0; boxes.len()];
        let mut leaves = 0;
        bvh.number_leaves(binary, &mut |leaf| {
            assert!((1..=WIDTH).contains(&leaf.len()));
            leaf.iter().for_each(|&i| seen[i as usize] += 1);
            leaves += 1;
        });
        assert!(seen.iter().all(|&n| n == 1));
        // A ray along all boxes visits all leaves.
        let (mut visited, mut limit) = (0, f32::INFINITY);
        let ray = Ray::new(Vec3::new(-1.0, 0.5, 0.5), Vec3::X);
        bvh.closest(&ray, &mut limit, &mut Stack::default(), |_, _| visited += 1);
        assert_eq!(visited, leaves);
        let mut visited = 0;
        assert!(!bvh.any(&ray, f32::INFINITY, &mut Stack::default(), |_| {
            visited += 1;
            false
        }));
        assert_eq!(visited, leaves);
        depth
    }

    #[test]
    fn the_balanced_tree_holds_everything_once_and_is_shallow() {
        for count in [1, 2, 5, 64, 1000] {
            let boxes: Vec<Aabb> = (0..count)
                .map(|i| {
                    let low = Vec3A::new((i * 37 % count) as f32, 0.0, 0.0);
                    Aabb::new(low, low + 1.0)
                })
                .collect();
            assert!(check(&halved(&boxes), &boxes) <= 10);
            let same = vec![boxes[0]; count];
            assert!(check(&halved(&same), &same) <= 10);
        }
    }
}
