//! `simple.txt`: the text format of the student system this program goes back to.
//!
//! Words between white space; `//` begins a comment, to the end of its line.
//!
//! | words | what |
//! |---|---|
//! | `materiau` and 10 numbers | ambient, diffuse and specular RGB, shininess: of the shapes that follow |
//! | `sphere x y z r` | a sphere |
//! | `polygone n x y z ...` | a plane convex polygon of n >= 3 vertices, seen from both sides |
//! | `source x y z r g b` | a light and its brightness |
//!
//! Shapes before any `materiau` are of a matt grey. The eye is at (0, 0, 1.5) and looks at the square [-1, 1] x [-1, 1]
//! of the plane z = 0: that is the one camera.

use std::str::SplitWhitespace;

use super::super::scene::{Camera, Lens, Light, PhongMaterial, Scene, Sphere, Surfaces, Triangle};
use super::{Loaded, MAX_TRIANGLES, MAX_VERTICES, shown};

/// Of shapes before any `materiau`.
const GREY: PhongMaterial = PhongMaterial { ambient: [0.1; 3], diffuse: [0.7; 3], specular: [0.0; 3], shininess: 1.0 };

/// Reads a scene of spheres and polygons.
///
/// # Errors
/// The line, the word, and what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Loaded, String> {
    // Comments may be in Latin-1; elsewhere a damaged letter is no word of the format.
    let text = String::from_utf8_lossy(bytes);
    let mut words = Words { lines: text.lines(), words: "".split_whitespace(), line: 0 };
    let mut reading = Reading::default();
    while let Some(word) = words.next() {
        let line = words.line;
        let at_line = |reason: String| match reason.contains("line ") {
            true => reason,
            false => format!("{reason} (line {line})"),
        };
        match word {
            "materiau" => reading.material(&mut words),
            "sphere" => reading.sphere(&mut words),
            "polygone" => reading.polygon(&mut words),
            "source" => reading.light(&mut words),
            other => Err(format!("line {line}: {} is not materiau, sphere, polygone or source", shown(other))),
        }
        .map_err(at_line)?;
    }
    let Reading { mut scene, materials, .. } = reading;
    scene.surfaces = Surfaces::Phong(materials);
    Ok(Loaded { scene, cameras: vec![camera()], warnings: Vec::new() })
}

fn camera() -> Camera {
    Camera {
        position: [0.0, 0.0, 1.5],
        axes: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        lens: Lens::Perspective { tan_half_y: 1.0 / 1.5 },
    }
}

/// The words of a file, and where they are.
struct Words<'a> {
    lines: std::str::Lines<'a>,
    words: SplitWhitespace<'a>,
    line: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        loop {
            if let Some(word) = self.words.next() {
                return Some(word);
            }
            let line = self.lines.next()?;
            self.words = line.split_once("//").map_or(line, |(words, _)| words).split_whitespace();
            self.line += 1;
        }
    }

    fn number(&mut self, what: &str) -> Result<f32, String> {
        let word = self.next().ok_or_else(|| format!("the file ends where the {what} is expected"))?;
        let number = word.parse().ok().filter(|number: &f32| number.is_finite());
        number.ok_or_else(|| format!("line {}: {} is not a number (the {what})", self.line, shown(word)))
    }

    fn numbers<const N: usize>(&mut self, what: &str) -> Result<[f32; N], String> {
        let mut numbers = [0.0; N];
        for number in &mut numbers {
            *number = self.number(what)?;
        }
        Ok(numbers)
    }

    /// Numbers that are not below 0.
    fn amounts<const N: usize>(&mut self, what: &str) -> Result<[f32; N], String> {
        let numbers = self.numbers(what)?;
        match numbers.iter().all(|number| *number >= 0.0) {
            true => Ok(numbers),
            false => Err(format!("{what} is {numbers:?}; it must be at least 0")),
        }
    }
}

/// What has been read.
#[derive(Default)]
struct Reading {
    scene: Scene,
    materials: Vec<PhongMaterial>,
}

impl Reading {
    fn material(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let (ambient, diffuse) = (words.amounts("ambient color")?, words.amounts("diffuse color")?);
        let (specular, [shininess]) = (words.amounts("specular color")?, words.amounts("shininess")?);
        self.materials.push(PhongMaterial { ambient, diffuse, specular, shininess });
        Ok(())
    }

    /// The last `materiau`. Before any, the grey becomes the first.
    fn current(&mut self) -> u32 {
        if self.materials.is_empty() {
            self.materials.push(GREY);
        }
        u32::try_from(self.materials.len() - 1).unwrap_or(u32::MAX)
    }

    fn sphere(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let (center, radius) = (words.numbers("center")?, words.number("radius")?);
        if radius <= 0.0 {
            return Err(format!("radius is {radius}; it must be above 0"));
        }
        let material = self.current();
        self.scene.spheres.push(Sphere { center, radius, material });
        Ok(())
    }

    fn polygon(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let word = words.next().ok_or("the file ends where the number of vertices is expected")?;
        let count = word.parse::<u32>().ok().filter(|count| *count >= 3);
        let count = count.ok_or_else(|| {
            format!("line {}: {} is not the number of a polygon's vertices, 3 or more", words.line, shown(word))
        })?;
        let material = self.current();
        // The count is not believed: what is read makes it grow.
        let first = u32::try_from(self.scene.positions.len()).unwrap_or(u32::MAX);
        for vertex in 0..count {
            self.scene.positions.push(words.numbers("vertex")?);
            if vertex >= 2 {
                let vertices = [first, first + vertex - 1, first + vertex];
                self.scene.triangles.push(Triangle { vertices, material });
            }
            if self.scene.positions.len() > MAX_VERTICES || self.scene.triangles.len() > MAX_TRIANGLES {
                return Err(format!("there are more than {MAX_TRIANGLES} triangles"));
            }
        }
        Ok(())
    }

    fn light(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let (position, intensity) = (words.numbers("position")?, words.amounts("brightness")?);
        self.scene.lights.push(Light::Point { position, intensity });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn every_word_becomes_what_it_names() {
        let text = "// une scène\nmateriau .1 .2 .3  .4 .5 .6 // c\n .7 .8 .9 10\nsphere 1 2 3 4\n\
                    polygone 4  0 0 0  1 0 0  1 1 0  0 1 0\nmateriau 0 0 0 1 1 1 0 0 0 1\n\
                    polygone 3 0 0 0 1 0 0 0 1 0//e\n\
                    source 1 2 3 .5 .6 .7";
        let loaded = parse(text.as_bytes()).unwrap();
        let scene = &loaded.scene;
        scene.check().unwrap();
        let Surfaces::Phong(materials) = &scene.surfaces else { panic!("{:?}", scene.surfaces) };
        let first = PhongMaterial {
            ambient: [0.1, 0.2, 0.3],
            diffuse: [0.4, 0.5, 0.6],
            specular: [0.7, 0.8, 0.9],
            shininess: 10.0,
        };
        assert_eq!((materials.len(), materials[0]), (2, first));
        assert_eq!(scene.spheres, [Sphere { center: [1.0, 2.0, 3.0], radius: 4.0, material: 0 }]);
        let triangles: Vec<_> = scene.triangles.iter().map(|triangle| (triangle.vertices, triangle.material)).collect();
        assert_eq!(triangles, [([0, 1, 2], 0), ([0, 2, 3], 0), ([4, 5, 6], 1)]);
        assert_eq!(scene.lights, [Light::Point { position: [1.0, 2.0, 3.0], intensity: [0.5, 0.6, 0.7] }]);
        assert_eq!(loaded.cameras, [camera()]);
    }

    #[test]
    fn shapes_before_any_material_are_grey() {
        let scene = parse(b"sphere 0 0 0 1 materiau 1 1 1 1 1 1 1 1 1 1 sphere 0 0 0 2").unwrap().scene;
        let Surfaces::Phong(materials) = &scene.surfaces else { panic!("{:?}", scene.surfaces) };
        assert_eq!(materials[0], GREY);
        assert_eq!((scene.spheres[0].material, scene.spheres[1].material), (0, 1));
    }

    #[test]
    fn comments_may_be_latin_1() {
        assert_eq!(parse(b"// lumi\xe8re\nsphere 0 0 0 1").unwrap().scene.spheres.len(), 1);
        assert!(parse(b"sph\xe8re 0 0 0 1").is_err());
    }

    #[test]
    fn an_error_names_the_line_and_the_word() {
        assert_eq!(refusal("\n\ncube 1"), "line 3: \"cube\" is not materiau, sphere, polygone or source");
        assert_eq!(refusal("sphere 0 0\n0,5 1"), "line 2: \"0,5\" is not a number (the center)");
        assert_eq!(refusal("sphere 0 0 nan 1"), "line 1: \"nan\" is not a number (the center)");
        assert_eq!(refusal("sphere 0 0 1e99 1"), "line 1: \"1e99\" is not a number (the center)");
        assert_eq!(refusal("sphere 0 0 0"), "the file ends where the radius is expected (line 1)");
        assert_eq!(refusal("\nsphere 0 0 0 -1"), "radius is -1; it must be above 0 (line 2)");
        assert!(refusal("polygone 2 0 0 0 1 1 1").contains("\"2\" is not the number of a polygon's vertices"));
        assert!(refusal("polygone 4294967295 0 0 0 1").starts_with("the file ends where the vertex is expected"));
        assert!(refusal("source 0 0 0 -1 0 0").contains("brightness is [-1.0, 0.0, 0.0]; it must be at least 0"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_scene_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_words_are_a_scene_that_is_right_or_an_error(
            text in "((materiau|sphere|polygone|source|//|[0-9.eE-]{1,4}|\n|1 2 3|3 0 0 0 1 0 0) ){0,20}",
        ) {
            if let Ok(loaded) = parse(text.as_bytes()) {
                let scene = loaded.scene;
                prop_assert!(scene.check().is_ok() || (scene.triangles.is_empty() && scene.spheres.is_empty()));
            }
        }
    }
}
