//! What holds of every scene that is rendered. The tracer indexes and divides without asking again.

use super::{Light, Material, NO_TEXTURE, PhongMaterial, Scene, Surfaces, Texture};

/// Triangles and spheres together: a node of a tree over them counts them in 31 bits.
const MAX_SHAPES: usize = (u32::MAX / 2) as usize;
/// How far the length of a direction may be from 1: f32 and quantized normals are closer.
const LENGTH_TOLERANCE: f32 = 1e-3;

impl Scene {
    /// Checks that indices are in range, numbers finite and in the ranges their documentation gives, that arrays have
    /// the lengths that belong together, and that there is something to see.
    ///
    /// # Errors
    /// Which item is wrong, and how.
    pub fn check(&self) -> Result<(), String> {
        self.check_vertices()?;
        let (materials, textures) = (self.surfaces.len(), self.textures.len());
        if self.triangles.is_empty() && self.spheres.is_empty() {
            return Err("there is no geometry: a scene has at least one triangle or sphere".to_owned());
        }
        if self.triangles.len().saturating_add(self.spheres.len()) > MAX_SHAPES {
            return Err(format!("there are more than {MAX_SHAPES} triangles and spheres"));
        }
        let vertices = self.positions.len();
        each("triangle", &self.triangles, |triangle| {
            triangle.vertices.iter().try_for_each(|vertex| index("vertex", *vertex, vertices))?;
            index("material", triangle.material, materials)
        })?;
        each("sphere", &self.spheres, |sphere| {
            finite("center", &sphere.center)?;
            require(sphere.radius.is_finite() && sphere.radius > 0.0, "radius", &[sphere.radius], "above 0")?;
            index("material", sphere.material, materials)
        })?;
        match &self.surfaces {
            Surfaces::Physical(materials) => each("material", materials, |material| check_physical(material, textures)),
            Surfaces::Phong(materials) => each("material", materials, check_phong),
        }?;
        each("texture", &self.textures, check_texture)?;
        each("light", &self.lights, check_light)?;
        positive("the environment", &self.environment)
    }

    fn check_vertices(&self) -> Result<(), String> {
        let vertices = self.positions.len();
        if vertices > u32::MAX as usize {
            return Err(format!("there are {vertices} vertices; at most {} can be counted", u32::MAX));
        }
        for (name, found) in [("normals", self.normals.len()), ("texture coordinates", self.uvs.len())] {
            if found != 0 && found != vertices {
                return Err(format!("there are {found} {name} for {vertices} vertices: each has one, or none has"));
            }
        }
        each("vertex", &self.positions, |position| finite("position", position))?;
        each("vertex", &self.normals, |normal| match *normal == [0.0; 3] {
            true => Ok(()),
            false => unit("normal", normal),
        })?;
        each("vertex", &self.uvs, |uv| finite("texture coordinates", uv))
    }
}

impl Surfaces {
    /// How many materials there are.
    pub fn len(&self) -> usize {
        match self {
            Surfaces::Physical(materials) => materials.len(),
            Surfaces::Phong(materials) => materials.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn each<T>(name: &str, items: &[T], check: impl Fn(&T) -> Result<(), String>) -> Result<(), String> {
    let wrong = items.iter().enumerate().find_map(|(place, item)| Some((place, check(item).err()?)));
    wrong.map_or(Ok(()), |(place, reason)| Err(format!("{name} {place}: {reason}")))
}

fn require(holds: bool, name: &str, found: &[f32], must: &str) -> Result<(), String> {
    match (holds, found) {
        (true, _) => Ok(()),
        (false, [found]) => Err(format!("{name} is {found}; it must be {must}")),
        (false, _) => Err(format!("{name} is {found:?}; it must be {must}")),
    }
}

fn index(name: &str, index: u32, len: usize) -> Result<(), String> {
    match (index as usize) < len {
        true => Ok(()),
        false => Err(format!("{name} {index} does not exist, there are {len}")),
    }
}

fn finite(name: &str, numbers: &[f32]) -> Result<(), String> {
    require(numbers.iter().all(|number| number.is_finite()), name, numbers, "finite")
}

fn positive(name: &str, numbers: &[f32]) -> Result<(), String> {
    let holds = numbers.iter().all(|number| number.is_finite() && *number >= 0.0);
    require(holds, name, numbers, "finite and at least 0")
}

fn fraction(name: &str, numbers: &[f32]) -> Result<(), String> {
    require(numbers.iter().all(|number| (0.0..=1.0).contains(number)), name, numbers, "between 0 and 1")
}

fn unit(name: &str, direction: &[f32; 3]) -> Result<(), String> {
    let length = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
    require((length - 1.0).abs() <= LENGTH_TOLERANCE, name, direction, "of length 1")
}

fn check_physical(material: &Material, textures: usize) -> Result<(), String> {
    fraction("base color", &material.base_color)?;
    positive("emission", &material.emission)?;
    fraction("metallic", &[material.metallic])?;
    fraction("roughness", &[material.roughness])?;
    fraction("specular", &[material.specular])?;
    let used = [material.base_color_texture, material.emission_texture, material.metallic_roughness_texture];
    used.into_iter()
        .filter(|texture| *texture != NO_TEXTURE)
        .try_for_each(|texture| index("texture", texture, textures))
}

fn check_phong(material: &PhongMaterial) -> Result<(), String> {
    positive("ambient", &material.ambient)?;
    positive("diffuse", &material.diffuse)?;
    positive("specular", &material.specular)?;
    positive("shininess", &[material.shininess])
}

fn check_texture(texture: &Texture) -> Result<(), String> {
    let (width, height, texels) = (texture.width, texture.height, texture.texels.len());
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) != texels as u64 {
        return Err(format!(
            "it is {width} x {height} with {texels} texels; it must have width times height, and some"
        ));
    }
    Ok(())
}

fn check_light(light: &Light) -> Result<(), String> {
    match light {
        Light::Point { position, intensity } => {
            finite("position", position)?;
            positive("intensity", intensity)
        }
        Light::Spot { position, direction, intensity, cos_inner, cos_outer } => {
            finite("position", position)?;
            unit("direction", direction)?;
            positive("intensity", intensity)?;
            let holds = -1.0 <= *cos_outer && cos_outer <= cos_inner && *cos_inner <= 1.0;
            require(
                holds,
                "cone",
                &[*cos_inner, *cos_outer],
                "two cosines, that of the inner angle not below the other",
            )
        }
        Light::Directional { direction, irradiance } => {
            unit("direction", direction)?;
            positive("irradiance", irradiance)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sphere, Triangle, Wrap};
    use super::*;

    fn triangle() -> Scene {
        Scene {
            positions: vec![[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
            triangles: vec![Triangle { vertices: [0, 1, 2], material: 0 }],
            surfaces: Surfaces::Physical(vec![Material::default()]),
            ..Scene::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut Scene)) -> String {
        let mut scene = triangle();
        scene.check().unwrap();
        change(&mut scene);
        scene.check().unwrap_err()
    }

    fn material(change: impl FnOnce(&mut Material)) -> String {
        let mut material = Material::default();
        change(&mut material);
        refusal(|scene| scene.surfaces = Surfaces::Physical(vec![material]))
    }

    #[test]
    fn a_scene_without_geometry_is_refused() {
        assert!(Scene::default().check().unwrap_err().contains("no geometry"));
        assert!(refusal(|scene| scene.triangles.clear()).contains("no geometry"));
    }

    #[test]
    fn an_index_out_of_range_is_named() {
        assert_eq!(refusal(|s| s.triangles[0].vertices[1] = 3), "triangle 0: vertex 3 does not exist, there are 3");
        assert_eq!(refusal(|s| s.triangles[0].material = 1), "triangle 0: material 1 does not exist, there are 1");
        assert_eq!(material(|m| m.emission_texture = 0), "material 0: texture 0 does not exist, there are 0");
        let sphere = Sphere { center: [0.0; 3], radius: 1.0, material: 7 };
        assert_eq!(refusal(|s| s.spheres.push(sphere)), "sphere 0: material 7 does not exist, there are 1");
    }

    #[test]
    fn a_vertex_that_is_not_finite_or_not_of_length_1_is_named() {
        assert_eq!(
            refusal(|s| s.positions[1][2] = f32::NAN),
            "vertex 1: position is [1.0, 0.0, NaN]; it must be finite"
        );
        assert!(refusal(|s| s.uvs = vec![[0.0, f32::INFINITY]; 3]).starts_with("vertex 0: texture coordinates is"));
        assert!(refusal(|s| s.normals = vec![[0.0, 1.1, 0.0]; 3]).ends_with("it must be of length 1"));
        assert!(refusal(|s| s.normals = vec![[0.0, 1.0, 0.0]; 2]).contains("2 normals for 3 vertices"));
        let mut scene = triangle();
        scene.normals = vec![[0.0; 3], [0.0, 1.0005, 0.0], [0.0, 0.0, -1.0]];
        scene.check().unwrap();
    }

    #[test]
    fn a_material_out_of_its_range_is_named() {
        assert_eq!(material(|m| m.roughness = 1.5), "material 0: roughness is 1.5; it must be between 0 and 1");
        assert!(material(|m| m.base_color[0] = -0.1).contains("base color is [-0.1, 1.0, 1.0]"));
        assert!(material(|m| m.emission[2] = -1.0).contains("emission"));
        assert!(material(|m| m.specular = f32::NAN).contains("specular is NaN"));
        assert!(material(|m| m.metallic = 2.0).contains("metallic"));
        let phong = PhongMaterial { shininess: -1.0, ..PhongMaterial::default() };
        assert!(refusal(|s| s.surfaces = Surfaces::Phong(vec![phong])).contains("material 0: shininess is -1"));
    }

    #[test]
    fn spheres_lights_textures_and_the_environment_are_checked() {
        let sphere = Sphere { center: [0.0; 3], radius: 0.0, material: 0 };
        assert_eq!(refusal(|s| s.spheres.push(sphere)), "sphere 0: radius is 0; it must be above 0");
        let texture = Texture { width: 2, height: 2, wrap: [Wrap::Repeat; 2], texels: vec![[0; 4]; 3] };
        assert!(refusal(|s| s.textures.push(texture)).contains("texture 0: it is 2 x 2 with 3 texels"));
        let empty = Texture { width: 0, height: 2, wrap: [Wrap::Repeat; 2], texels: Vec::new() };
        assert!(refusal(|s| s.textures.push(empty)).contains("0 x 2"));
        let light = Light::Directional { direction: [0.0, 2.0, 0.0], irradiance: [1.0; 3] };
        assert!(refusal(|s| s.lights.push(light)).contains("light 0: direction"));
        let cone = |cos_inner, cos_outer| {
            let (position, direction, intensity) = ([0.0; 3], [0.0, -1.0, 0.0], [1.0; 3]);
            Light::Spot { position, direction, intensity, cos_inner, cos_outer }
        };
        assert!(refusal(|s| s.lights.push(cone(0.5, 0.6))).contains("light 0: cone is [0.5, 0.6]"));
        assert!(refusal(|s| s.environment[1] = f32::INFINITY).contains("the environment"));
    }
}
