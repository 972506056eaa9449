//! MTL, the materials of an OBJ, as metallic-roughness.
//!
//! | MTL | here |
//! |---|---|
//! | `Kd`, `map_Kd` | base color; white if there is none |
//! | `Ke` | emission |
//! | `Ks` | reflection: `specular` is its luminance / 0.04, at most 1, because 1 stands for a dielectric's 4 % |
//! | `Ns` | an exponent of Blinn and Phong: GGX's alpha is sqrt(2 / (Ns + 2)), roughness its square root; 1 without |
//! | `Pr`, `Pm` | roughness and metallic, instead of the above |
//! | `Ka`, `Ni`, `Km`, `illum` up to 2, `sharpness` | nothing: they stand for what path tracing finds out by itself |
//!
//! A face of an OBJ has no side that it is not seen from: all materials are double-sided.

use std::collections::BTreeSet;

use tobj::Material as Mtl;

use super::super::super::scene::{Material, Wrap};
use super::super::{Warnings, shown};

/// Where a material's texture is.
#[derive(Debug, PartialEq)]
pub(super) struct Map {
    pub name: String,
    pub wrap: Wrap,
}

/// The lines of the materials of a library that are `wanted`, checked before `tobj` reads them: it panics at a color of
/// one number. What is found is wanted no more: the first of a name counts.
///
/// # Errors
/// The line, the word, and what is wrong with it.
pub(super) fn prepare(
    library: &str,
    mtl: &str,
    wanted: &mut BTreeSet<String>,
    warnings: &mut Warnings,
) -> Result<String, String> {
    let (mut lines, mut is_wanted) = (String::new(), false);
    for (number, line) in mtl.lines().enumerate() {
        let at_line = |reason: String| format!("{}, line {}: {reason}", shown(library), number + 1);
        let (keyword, rest) = super::words(line);
        if keyword == "newmtl" {
            is_wanted = rest.is_empty() || wanted.remove(rest);
        }
        match keyword {
            _ if !is_wanted => {}
            "" | "Ka" | "Ni" | "Km" | "sharpness" => {}
            "newmtl" | "map_Kd" if rest.is_empty() => return Err(at_line(format!("{keyword} without a name"))),
            "newmtl" | "map_Kd" => lines.extend([keyword, " ", rest, "\n"]),
            "Kd" | "Ke" | "Ks" if rest.starts_with("spectral") || rest.starts_with("xyz") => {
                warnings.say(format!("{keyword} as a spectrum or in XYZ is ignored"));
            }
            "Kd" | "Ke" | "Ks" => {
                let words: Vec<&str> = rest.split_whitespace().take(3).collect();
                words.iter().try_for_each(|word| number_in(word).map(drop)).map_err(at_line)?;
                let [r, g, b] = match words[..] {
                    [r, g, b] => [r, g, b],
                    [grey] => [grey; 3],
                    _ => return Err(at_line(format!("{keyword} needs 3 numbers, and has {}", words.len()))),
                };
                lines.extend([keyword, " ", r, " ", g, " ", b, "\n"]);
            }
            "Ns" | "Pr" | "Pm" => {
                let word = rest.split_whitespace().next().unwrap_or("");
                number_in(word).map_err(at_line)?;
                lines.extend([keyword, " ", word, "\n"]);
            }
            "d" | "Tr" => {
                let opaque = if keyword == "d" { 1.0 } else { 0.0 };
                let is_opaque = rest.parse::<f32>().is_ok_and(|number| number == opaque);
                warnings.say_if(!is_opaque, "transparency (d, Tr) is ignored: everything is opaque");
            }
            "illum" => {
                let is_plain = matches!(rest, "0" | "1" | "2");
                warnings.say_if(!is_plain, "reflection and refraction models (illum above 2) are ignored");
            }
            other => warnings.say(format!("{} in a material library is ignored", shown(other))),
        }
    }
    Ok(lines)
}

fn number_in(word: &str) -> Result<f32, String> {
    let number = word.parse().ok().filter(|number: &f32| number.is_finite());
    number.ok_or_else(|| format!("{} is not a number", shown(word)))
}

/// A material without its texture.
pub(super) fn material(mtl: &Mtl) -> Material {
    let color = |found: Option<[f32; 3]>, none: f32| found.unwrap_or([none; 3]).map(|c| c.max(0.0));
    let [r, g, b] = color(mtl.specular, 0.0);
    let luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let roughness = mtl.shininess.map_or(1.0, |exponent| (2.0 / (exponent.max(0.0) + 2.0)).sqrt().sqrt());
    let of_extension = |key: &str| mtl.unknown_param.get(key).and_then(|number| number.parse::<f32>().ok());
    Material {
        base_color: color(mtl.diffuse, 1.0).map(|c| c.min(1.0)),
        emission: color(mtl.emissive, 0.0),
        specular: (luminance / 0.04).min(1.0),
        roughness: of_extension("Pr").unwrap_or(roughness).clamp(0.0, 1.0),
        metallic: of_extension("Pm").unwrap_or(0.0).clamp(0.0, 1.0),
        ..Material::default()
    }
}

/// The file that a `map_Kd` names, without the options before it.
pub(super) fn map(words: &str, warnings: &mut Warnings) -> Map {
    let name = |name: &str| name.replace('\\', "/");
    if !words.starts_with('-') {
        return Map { name: name(words), wrap: Wrap::Repeat };
    }
    let options: Vec<&str> = words.split_whitespace().collect();
    let clamped = options.windows(2).any(|pair| pair == ["-clamp", "on"]);
    let others = options.iter().any(|word| {
        *word != "-clamp" && word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_alphabetic()))
    });
    warnings.say_if(others, "options of textures other than -clamp are ignored");
    let wrap = if clamped { Wrap::Clamp } else { Wrap::Repeat };
    Map { name: name(options.last().copied().unwrap_or("")), wrap }
}
