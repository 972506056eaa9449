//! A scene as bytes: what workers are sent, and what its hash names.
//!
//! The same scene is always the same bytes. What is read here came from outside: no length is believed before it is
//! compared with the bytes that are there, and what is read has passed [`Scene::check`].

use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};

use super::{Light, Scene, Surfaces, Texture, Wrap};

const MAGIC: [u8; 4] = *b"RBSC";
const VERSION: u16 = 1;
const PHYSICAL: u8 = 0;
const PHONG: u8 = 1;
const HAS_NORMALS: u8 = 1;
const HAS_UVS: u8 = 2;

/// The head of a scene, 44 bytes, and what follows it. Little-endian, nothing between, nothing after.
///
/// | offset | bytes | type | field |
/// |---|---|---|---|
/// | 0 | 4 | u8 x 4 | `RBSC` |
/// | 4 | 2 | u16 | version, 1 |
/// | 6 | 1 | u8 | surfaces: 0 physical, 1 Phong |
/// | 7 | 1 | u8 | 1 if vertices have normals, plus 2 if they have texture coordinates |
/// | 8 | 4 | u32 | `v`, vertices |
/// | 12 | 4 | u32 | `t`, triangles |
/// | 16 | 4 | u32 | `s`, spheres |
/// | 20 | 4 | u32 | `m`, materials |
/// | 24 | 4 | u32 | `i`, textures |
/// | 28 | 4 | u32 | `l`, lights |
/// | 32 | 12 | f32 x 3 | radiance of the environment |
/// | 44 | 12 v | f32 x 3 | positions |
/// | .. | 12 v or 0 | f32 x 3 | normals |
/// | .. | 8 v or 0 | f32 x 2 | texture coordinates |
/// | .. | 16 t | | [`Triangle`](super::Triangle)s |
/// | .. | 20 s | | [`Sphere`](super::Sphere)s |
/// | .. | 52 m or 40 m | | [`Material`](super::Material)s or [`PhongMaterial`](super::PhongMaterial)s |
/// | .. | 48 l | | [`LightRecord`]s |
/// | .. | 12 i | | [`TextureHead`]s |
/// | .. | 4 a texel | u8 x 4 | the texels of each texture, in their order |
///
/// A struct is its fields in their order, as they are declared, without padding.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Head {
    magic: [u8; 4],
    version: u16,
    surfaces: u8,
    flags: u8,
    vertices: u32,
    triangles: u32,
    spheres: u32,
    materials: u32,
    textures: u32,
    lights: u32,
    environment: [f32; 3],
}

/// A light; what its kind does not have is 0.
#[derive(Clone, Copy, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct LightRecord {
    /// 0 point, 1 spot, 2 directional.
    kind: u32,
    position: [f32; 3],
    direction: [f32; 3],
    /// Intensity, or irradiance.
    color: [f32; 3],
    /// Cosines of the inner and of the outer angle.
    cone: [f32; 2],
}

/// A texture without its texels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct TextureHead {
    width: u32,
    height: u32,
    /// Across and down: 0 repeat, 1 mirror, 2 clamp.
    wrap: [u8; 2],
    /// 0.
    reserved: [u8; 2],
}

impl Scene {
    /// The bytes of a scene, which must have passed [`Scene::check`]: [`Scene::decode`] refuses others.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, materials): (_, &[u8]) = match &self.surfaces {
            Surfaces::Physical(materials) => (PHYSICAL, bytemuck::cast_slice(materials)),
            Surfaces::Phong(materials) => (PHONG, bytemuck::cast_slice(materials)),
        };
        let flag = |set: bool, flag| if set { flag } else { 0 };
        let head = Head {
            magic: MAGIC,
            version: VERSION,
            surfaces: kind,
            flags: flag(!self.normals.is_empty(), HAS_NORMALS) | flag(!self.uvs.is_empty(), HAS_UVS),
            vertices: count(self.positions.len()),
            triangles: count(self.triangles.len()),
            spheres: count(self.spheres.len()),
            materials: count(self.surfaces.len()),
            textures: count(self.textures.len()),
            lights: count(self.lights.len()),
            environment: self.environment,
        };
        let lights: Vec<LightRecord> = self.lights.iter().map(LightRecord::from).collect();
        let textures: Vec<TextureHead> = self.textures.iter().map(TextureHead::from).collect();
        let sections: [&[u8]; 9] = [
            bytemuck::bytes_of(&head),
            bytemuck::cast_slice(&self.positions),
            bytemuck::cast_slice(&self.normals),
            bytemuck::cast_slice(&self.uvs),
            bytemuck::cast_slice(&self.triangles),
            bytemuck::cast_slice(&self.spheres),
            materials,
            bytemuck::cast_slice(&lights),
            bytemuck::cast_slice(&textures),
        ];
        let texels = || self.textures.iter().map(|texture| bytemuck::cast_slice::<_, u8>(&texture.texels));
        let len = sections.iter().map(|section| section.len()).chain(texels().map(<[u8]>::len)).sum();
        let mut bytes = Vec::with_capacity(len);
        sections.into_iter().chain(texels()).for_each(|section| bytes.extend_from_slice(section));
        bytes
    }

    /// The scene that these bytes are.
    ///
    /// # Errors
    /// What is wrong with the bytes, or with the scene.
    pub fn decode(bytes: &[u8]) -> Result<Scene, String> {
        let mut rest = Rest { bytes };
        let head: Head = rest.one("head")?;
        if head.magic != MAGIC {
            return Err("the bytes are not a scene".to_owned());
        }
        if head.version != VERSION {
            return Err(format!("the scene is of version {}; version {VERSION} is read", head.version));
        }
        if head.flags & !(HAS_NORMALS | HAS_UVS) != 0 || (head.flags != 0 && head.vertices == 0) {
            return Err(format!("the scene has the flags {} with {} vertices", head.flags, head.vertices));
        }
        let of_vertices = |flag| if head.flags & flag != 0 { head.vertices } else { 0 };
        let positions = rest.many("positions", head.vertices)?;
        let normals = rest.many("normals", of_vertices(HAS_NORMALS))?;
        let uvs = rest.many("texture coordinates", of_vertices(HAS_UVS))?;
        let triangles = rest.many("triangles", head.triangles)?;
        let spheres = rest.many("spheres", head.spheres)?;
        let surfaces = match head.surfaces {
            PHYSICAL => Surfaces::Physical(rest.many("materials", head.materials)?),
            PHONG => Surfaces::Phong(rest.many("materials", head.materials)?),
            code => return Err(format!("surfaces are 0 (physical) or 1 (Phong), not {code}")),
        };
        let lights: Vec<LightRecord> = rest.many("lights", head.lights)?;
        let lights = lights.into_iter().map(LightRecord::light).collect::<Result<_, _>>()?;
        let textures: Vec<TextureHead> = rest.many("textures", head.textures)?;
        let textures = textures.into_iter().map(|head| head.texture(&mut rest)).collect::<Result<_, _>>()?;
        if !rest.bytes.is_empty() {
            return Err(format!("{} bytes follow the scene", rest.bytes.len()));
        }
        let environment = head.environment;
        let scene = Scene { positions, normals, uvs, triangles, spheres, surfaces, textures, lights, environment };
        scene.check()?;
        Ok(scene)
    }
}

/// More than there may be becomes a number that no bytes bear out.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// What has not been read yet.
struct Rest<'a> {
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    fn take(&mut self, what: &str, len: u64) -> Result<&'a [u8], String> {
        let found = self.bytes.len();
        let split = usize::try_from(len).ok().and_then(|len| self.bytes.split_at_checked(len));
        let (taken, rest) =
            split.ok_or_else(|| format!("the scene ends within its {what}: they are {len} bytes, {found} are left"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn one<T: AnyBitPattern>(&mut self, what: &str) -> Result<T, String> {
        let bytes = self.take(what, size_of::<T>() as u64)?;
        Ok(bytemuck::pod_read_unaligned(bytes))
    }

    /// Copies, because the bytes may begin at any address.
    fn many<T: AnyBitPattern + NoUninit>(&mut self, what: &str, count: u32) -> Result<Vec<T>, String> {
        let bytes = self.take(what, u64::from(count) * size_of::<T>() as u64)?;
        Ok(bytemuck::pod_collect_to_vec(bytes))
    }
}

impl From<&Light> for LightRecord {
    fn from(light: &Light) -> Self {
        let none = LightRecord::default();
        match *light {
            Light::Point { position, intensity } => LightRecord { position, color: intensity, ..none },
            Light::Spot { position, direction, intensity, cos_inner, cos_outer } => {
                LightRecord { kind: 1, position, direction, color: intensity, cone: [cos_inner, cos_outer] }
            }
            Light::Directional { direction, irradiance } => {
                LightRecord { kind: 2, direction, color: irradiance, ..none }
            }
        }
    }
}

impl LightRecord {
    fn light(self) -> Result<Light, String> {
        let LightRecord { kind, position, direction, color, cone: [cos_inner, cos_outer] } = self;
        let light = match kind {
            0 => Light::Point { position, intensity: color },
            1 => Light::Spot { position, direction, intensity: color, cos_inner, cos_outer },
            2 => Light::Directional { direction, irradiance: color },
            _ => return Err(format!("a light is 0 (point), 1 (spot) or 2 (directional), not {kind}")),
        };
        // Bits, not numbers: -0 would be a second name of the same scene.
        match bytemuck::bytes_of(&LightRecord::from(&light)) == bytemuck::bytes_of(&self) {
            true => Ok(light),
            false => Err(format!("a light of kind {kind} has numbers that are another kind's")),
        }
    }
}

impl From<&Texture> for TextureHead {
    fn from(texture: &Texture) -> Self {
        let code = |wrap| match wrap {
            Wrap::Repeat => 0,
            Wrap::Mirror => 1,
            Wrap::Clamp => 2,
        };
        TextureHead { width: texture.width, height: texture.height, wrap: texture.wrap.map(code), reserved: [0; 2] }
    }
}

impl TextureHead {
    fn texture(self, rest: &mut Rest<'_>) -> Result<Texture, String> {
        let wrap = |code| match code {
            0 => Ok(Wrap::Repeat),
            1 => Ok(Wrap::Mirror),
            2 => Ok(Wrap::Clamp),
            _ => Err(format!("what is beyond a texture is 0 (repeat), 1 (mirror) or 2 (clamp), not {code}")),
        };
        if self.reserved != [0; 2] {
            return Err("bytes of a texture that must be 0 are not".to_owned());
        }
        let len = u64::from(self.width).saturating_mul(u64::from(self.height)).saturating_mul(4);
        let texels = bytemuck::pod_collect_to_vec(rest.take("texels", len)?);
        let [across, down] = self.wrap;
        Ok(Texture { width: self.width, height: self.height, wrap: [wrap(across)?, wrap(down)?], texels })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Material, NO_TEXTURE, PhongMaterial, Sphere, Triangle};
    use super::*;

    const HEAD_BYTES: usize = 44;

    fn number() -> impl Strategy<Value = f32> + Clone {
        prop_oneof![-1e3_f32..1e3, Just(0.0), Just(-0.0), Just(f32::MAX)]
    }

    fn three<T: std::fmt::Debug>(of: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = [T; 3]> {
        [of.clone(), of.clone(), of]
    }

    fn direction() -> impl Strategy<Value = [f32; 3]> {
        prop_oneof![Just([1.0, 0.0, 0.0]), Just([0.0, -1.0, -0.0]), Just([0.6, 0.0, 0.8])]
    }

    fn light() -> impl Strategy<Value = Light> {
        let color = || three(0_f32..9.0);
        prop_oneof![
            (three(number()), color()).prop_map(|(position, intensity)| Light::Point { position, intensity }),
            (three(number()), direction(), color(), 0_f32..1.0, 0_f32..1.0).prop_map(
                |(position, direction, intensity, a, b)| {
                    Light::Spot { position, direction, intensity, cos_inner: a.max(b), cos_outer: a.min(b) }
                }
            ),
            (direction(), color()).prop_map(|(direction, irradiance)| Light::Directional { direction, irradiance }),
        ]
    }

    fn texture() -> impl Strategy<Value = Texture> {
        let wrap = || prop_oneof![Just(Wrap::Repeat), Just(Wrap::Mirror), Just(Wrap::Clamp)];
        (1_u32..4, 1_u32..4, [wrap(), wrap()], any::<[u8; 4]>()).prop_map(|(width, height, wrap, texel)| Texture {
            width,
            height,
            wrap,
            texels: vec![texel; (width * height) as usize],
        })
    }

    fn surfaces() -> impl Strategy<Value = Surfaces> {
        let material = (three(0_f32..1.0), three(0_f32..50.0), three(0_f32..1.0), any::<u32>(), any::<bool>());
        let physical =
            material.prop_map(|(base_color, emission, [metallic, roughness, specular], double_sided, textured)| {
                let texture = if textured { 0 } else { NO_TEXTURE };
                let (base_color_texture, emission_texture, metallic_roughness_texture) = (texture, NO_TEXTURE, texture);
                Material {
                    base_color,
                    base_color_texture,
                    emission,
                    emission_texture,
                    metallic,
                    roughness,
                    metallic_roughness_texture,
                    specular,
                    double_sided,
                }
            });
        let phong = (three(0_f32..1.0), three(0_f32..1.0), three(0_f32..1.0), 0_f32..99.0).prop_map(
            |(ambient, diffuse, specular, shininess)| PhongMaterial { ambient, diffuse, specular, shininess },
        );
        prop_oneof![
            proptest::collection::vec(physical, 1..4).prop_map(Surfaces::Physical),
            proptest::collection::vec(phong, 1..4).prop_map(Surfaces::Phong),
        ]
    }

    fn scene() -> impl Strategy<Value = Scene> {
        use proptest::collection::vec;
        let parts =
            (vec(three(number()), 1..9), any::<[bool; 3]>(), surfaces(), vec(texture(), 1..3), vec(light(), 0..4));
        (parts, three(0_f32..2.0), 0_usize..5, any::<u32>()).prop_map(
            |((positions, [normals, uvs, sphere], surfaces, textures, lights), environment, triangles, seed)| {
                let (vertices, materials) = (positions.len() as u32, surfaces.len() as u32);
                let pick = |i: usize, k: u32| seed.rotate_left(k + 7 * i as u32) % vertices;
                let triangle =
                    |i| Triangle { vertices: [pick(i, 0), pick(i, 1), pick(i, 2)], material: seed % materials };
                let spheres = sphere || triangles == 0;
                Scene {
                    normals: if normals { vec![[0.0, 0.6, -0.8]; positions.len()] } else { Vec::new() },
                    uvs: if uvs { vec![[0.5, -3.0]; positions.len()] } else { Vec::new() },
                    triangles: (0..triangles).map(triangle).collect(),
                    spheres: vec![Sphere { center: [1.0; 3], radius: 0.5, material: 0 }; usize::from(spheres)],
                    positions,
                    surfaces,
                    textures,
                    lights,
                    environment,
                }
            },
        )
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let scene = Scene {
            positions: vec![[1.0, 0.0, 0.0]; 3],
            uvs: vec![[0.25, 0.5]; 3],
            triangles: vec![Triangle { vertices: [0, 1, 2], material: 0 }],
            surfaces: Surfaces::Phong(vec![PhongMaterial::default()]),
            textures: vec![Texture {
                width: 1,
                height: 1,
                wrap: [Wrap::Mirror, Wrap::Clamp],
                texels: vec![[1, 2, 3, 4]],
            }],
            lights: vec![Light::Directional { direction: [0.0, 1.0, 0.0], irradiance: [2.0; 3] }],
            environment: [0.0, 0.0, 1.0],
            ..Scene::default()
        };
        let bytes = scene.encode();
        assert_eq!(bytes[..12], *b"RBSC\x01\0\x01\x02\x03\0\0\0");
        assert_eq!(bytes[12..32], *b"\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0");
        assert_eq!(bytes[40..44], 1_f32.to_le_bytes());
        let (triangles, materials) = (HEAD_BYTES + 36 + 24, HEAD_BYTES + 36 + 24 + 16);
        assert_eq!(bytes[triangles + 4..triangles + 12], [1, 0, 0, 0, 2, 0, 0, 0]);
        let lights = materials + 40;
        assert_eq!(bytes[lights..lights + 4], [2, 0, 0, 0]);
        assert_eq!(bytes[lights + 28..lights + 32], 2_f32.to_le_bytes());
        assert_eq!(bytes[lights + 48..], [1, 0, 0, 0, 1, 0, 0, 0, 1, 2, 0, 0, 1, 2, 3, 4]);
        assert_eq!(Scene::decode(&bytes).unwrap(), scene);
        assert_eq!((size_of::<Head>(), size_of::<Material>(), size_of::<Sphere>()), (HEAD_BYTES, 52, 20));
    }

    #[test]
    fn a_count_that_the_bytes_do_not_bear_out_is_refused() {
        for field in (8..32).step_by(4) {
            let mut bytes = vec![0; HEAD_BYTES];
            bytes[..6].copy_from_slice(b"RBSC\x01\0");
            bytes[field..field + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            let reason = Scene::decode(&bytes).unwrap_err();
            assert!(reason.contains("ends within its") && reason.ends_with("0 are left"), "{reason}");
        }
        let mut bytes = vec![0; HEAD_BYTES];
        bytes[..6].copy_from_slice(b"RBSC\x01\0");
        bytes[24] = 1;
        bytes.extend([0xff; 8]);
        bytes.extend([0; 4]);
        assert!(Scene::decode(&bytes).unwrap_err().contains("ends within its texels"));
    }

    #[test]
    fn other_bytes_are_refused_by_name() {
        let refusal = |bytes: &[u8]| Scene::decode(bytes).unwrap_err();
        assert!(refusal(b"").contains("ends within its head"));
        assert!(refusal(&[7; HEAD_BYTES]).contains("not a scene"));
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        assert!(refusal(&bytes).contains("version 0"));
        bytes[4] = 1;
        assert!(refusal(&bytes).contains("no geometry"));
        bytes[6] = 2;
        assert!(refusal(&bytes).contains("not 2"));
        bytes[7] = 4;
        assert!(refusal(&bytes).contains("flags 4"));
    }

    proptest! {
        #[test]
        fn every_scene_comes_back(scene in scene()) {
            scene.check().unwrap();
            let bytes = scene.encode();
            let again = Scene::decode(&bytes).unwrap();
            prop_assert_eq!(&again, &scene);
            prop_assert_eq!(again.encode(), bytes);
        }

        #[test]
        fn bytes_at_any_address_are_read(scene in scene(), shift in 0_usize..4) {
            let shifted = [vec![0; shift], scene.encode()].concat();
            prop_assert_eq!(Scene::decode(&shifted[shift..]).unwrap(), scene);
        }

        #[test]
        fn every_truncation_and_every_addition_is_refused(scene in scene(), extra in any::<u8>()) {
            let mut bytes = scene.encode();
            for len in 0..bytes.len() {
                prop_assert!(Scene::decode(&bytes[..len]).is_err());
            }
            bytes.push(extra);
            prop_assert!(Scene::decode(&bytes).unwrap_err().contains("1 bytes follow"));
        }

        #[test]
        fn a_changed_byte_is_an_error_or_another_scene_that_is_right(scene in scene(), flip in 1_u8..) {
            let bytes = scene.encode();
            for place in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[place] ^= flip;
                if let Ok(other) = Scene::decode(&changed) {
                    prop_assert!(other.check().is_ok());
                    prop_assert_eq!(other.encode(), changed);
                }
            }
        }

        #[test]
        fn any_bytes_are_a_scene_or_an_error(
            kind in 0_u8..3, flags in 0_u8..5, counts in proptest::collection::vec(0_u8..4, 6),
            body in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut bytes = b"RBSC\x01\0".to_vec();
            bytes.extend([kind, flags]);
            bytes.extend(counts.into_iter().flat_map(|count| [count, 0, 0, 0]));
            bytes.extend(body);
            if let Ok(scene) = Scene::decode(&bytes) {
                prop_assert_eq!(scene.encode(), bytes);
            }
        }
    }
}
