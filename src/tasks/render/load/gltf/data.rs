//! The bytes that a document refers to, and the numbers in them.
//!
//! `gltf` has iterators over accessors; they add and multiply what the file says, and take the stride for at least the
//! size of an element. Here all of it is checked first.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use gltf::json::Root;
use gltf::json::accessor::sparse::Sparse;
use gltf::json::accessor::{Accessor, ComponentType, Type};
use gltf::json::validation::Checked;

use super::super::folder::Folder;
use super::super::shown;

/// The buffers of a document.
pub(super) struct Data<'a> {
    root: &'a Root,
    buffers: Vec<Buffer<'a>>,
}

#[derive(Clone)]
enum Buffer<'a> {
    /// The binary chunk.
    Chunk(&'a [u8]),
    /// Buffers may share a file.
    Read(Rc<Vec<u8>>),
}

/// The elements of an accessor, in the bytes that are there.
struct Elements<'a> {
    bytes: &'a [u8],
    stride: usize,
    size: usize,
    count: usize,
    component: ComponentType,
    kind: Type,
    is_normalized: bool,
}

impl<'a> Data<'a> {
    /// Reads all buffers.
    ///
    /// # Errors
    /// Which of them is not there, and why.
    pub(super) fn read(root: &'a Root, chunk: Option<&'a [u8]>, folder: &Folder) -> Result<Data<'a>, String> {
        let mut files: HashMap<PathBuf, Rc<Vec<u8>>> = HashMap::new();
        let mut buffer = |place: usize, buffer: &gltf::json::Buffer| {
            let read = match &buffer.uri {
                None if place == 0 => Buffer::Chunk(chunk.ok_or("it has no uri, and there is no binary chunk")?),
                None => return Err("it has no uri".to_owned()),
                Some(uri) => match data_uri(uri) {
                    Some(bytes) => Buffer::Read(Rc::new(bytes?)),
                    None => {
                        let name = percent_decoded(uri)?;
                        let path = folder.find(&name)?;
                        let bytes = match files.get(&path) {
                            Some(read) => Rc::clone(read),
                            None => Rc::new(folder.read(&name)?),
                        };
                        files.insert(path, Rc::clone(&bytes));
                        Buffer::Read(bytes)
                    }
                },
            };
            let (found, expected) = (read.bytes().len() as u64, buffer.byte_length.0);
            if found < expected {
                return Err(format!("it is to have {expected} bytes, and has {found}: it is truncated, save it again"));
            }
            Ok(read)
        };
        let buffers = root.buffers.iter().enumerate();
        let buffers =
            buffers.map(|(place, json)| buffer(place, json).map_err(|reason| format!("buffer {place}: {reason}")));
        Ok(Data { root, buffers: buffers.collect::<Result<_, _>>()? })
    }

    /// The bytes of a buffer view, and its stride.
    fn view(&self, index: usize) -> Result<(&[u8], Option<usize>), String> {
        let views = &self.root.buffer_views;
        let view = views.get(index).ok_or_else(|| missing("bufferView", index, views.len()))?;
        let buffer = view.buffer.value();
        let bytes = self.buffers.get(buffer).ok_or_else(|| missing("buffer", buffer, self.buffers.len()))?.bytes();
        let (offset, length) = (view.byte_offset.unwrap_or_default().0, view.byte_length.0);
        let slice = range(offset, length).and_then(|range| bytes.get(range)).ok_or_else(|| {
            let found = bytes.len();
            format!(
                "bufferView {index}: {length} bytes from {offset} on are beyond the {found} bytes of buffer {buffer}"
            )
        })?;
        Ok((slice, view.byte_stride.map(|stride| stride.0)))
    }

    /// The bytes of an image, from a view, a data URI, or a file.
    ///
    /// # Errors
    /// They are not there.
    pub(super) fn image(&self, index: usize, folder: &Folder) -> Result<Vec<u8>, String> {
        let images = &self.root.images;
        let image = images.get(index).ok_or_else(|| missing("image", index, images.len()))?;
        match (&image.buffer_view, &image.uri) {
            (Some(view), _) => Ok(self.view(view.value())?.0.to_vec()),
            (None, Some(uri)) => match data_uri(uri) {
                Some(bytes) => bytes,
                None => Ok(folder.read(&percent_decoded(uri)?)?),
            },
            (None, None) => Err("it has neither a bufferView nor a uri".to_owned()),
        }
    }

    /// The accessor of an index.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn accessor(&self, index: usize) -> Result<&'a Accessor, String> {
        let accessors = &self.root.accessors;
        accessors.get(index).ok_or_else(|| missing("accessor", index, accessors.len()))
    }

    /// The elements of an accessor, without what replaces some of them.
    fn elements(&self, index: usize) -> Result<Elements<'_>, String> {
        let accessor = self.accessor(index)?;
        let (Checked::Valid(component), Checked::Valid(kind)) = (accessor.component_type, accessor.type_) else {
            return Err("its type or componentType is not one of glTF's".to_owned());
        };
        let view = accessor.buffer_view.ok_or("it has no bufferView; accessors that are only sparse are not read")?;
        let offset = accessor.byte_offset.unwrap_or_default().0;
        let elements = self.strided(view.value(), offset, accessor.count.0, component.0, kind)?;
        Ok(Elements { is_normalized: accessor.normalized, ..elements })
    }

    /// That many elements in a buffer view.
    fn strided(
        &self,
        view: usize,
        offset: u64,
        count: u64,
        component: ComponentType,
        kind: Type,
    ) -> Result<Elements<'_>, String> {
        let (bytes, stride) = self.view(view)?;
        let size = component.size() * kind.multiplicity();
        let stride = stride.unwrap_or(size);
        if stride < size {
            return Err(format!("its elements of {size} bytes are to be {stride} bytes apart"));
        }
        let last = count.checked_sub(1).ok_or("it has no elements")?;
        let length = last.checked_mul(stride as u64).and_then(|length| length.checked_add(size as u64));
        let bytes = length.and_then(|length| bytes.get(range(offset, length)?)).ok_or_else(|| {
            let found = bytes.len();
            format!("its {count} elements from {offset} on are beyond the {found} bytes of bufferView {view}")
        })?;
        Ok(Elements { bytes, stride, size, count: count as usize, component, kind, is_normalized: false })
    }

    /// Puts the elements of a sparse accessor in their places.
    fn replace<const N: usize>(
        &self,
        sparse: &Sparse,
        base: &Elements<'_>,
        all: &mut [[f32; N]],
    ) -> Result<(), String> {
        let Checked::Valid(component) = sparse.indices.component_type else {
            return Err("the componentType of its sparse indices is not one of glTF's".to_owned());
        };
        let (count, view) = (sparse.count.0, sparse.indices.buffer_view.value());
        let indices = self.strided(view, sparse.indices.byte_offset.0, count, component.0, Type::Scalar)?;
        let (view, offset) = (sparse.values.buffer_view.value(), sparse.values.byte_offset.0);
        let values = self.strided(view, offset, count, base.component, base.kind)?;
        for (index, value) in indices.iter().map(index).zip(values.iter()) {
            let found = all.len();
            let place = all.get_mut(index as usize);
            *place.ok_or_else(|| format!("its sparse index {index} is beyond its {found} elements"))? =
                base.vector(value);
        }
        Ok(())
    }

    /// How many elements an accessor has, all of them there.
    ///
    /// # Errors
    /// It is not there, or they are not.
    pub(super) fn count(&self, index: usize) -> Result<usize, String> {
        let elements = self.elements(index);
        elements.map(|elements| elements.count).map_err(|reason| format!("accessor {index}: {reason}"))
    }

    /// The vectors of an accessor. Integers are fractions if it says so; else they are numbers.
    ///
    /// # Errors
    /// It is not there, of another type, or holds a number that is not finite.
    pub(super) fn vectors<const N: usize>(&self, index: usize, kind: Type) -> Result<Vec<[f32; N]>, String> {
        let read = || {
            let elements = self.elements(index)?;
            if elements.kind != kind || elements.kind.multiplicity() != N || elements.component == ComponentType::U32 {
                return Err(format!(
                    "it holds {:?} of {:?}; {kind:?} is needed here",
                    elements.kind, elements.component
                ));
            }
            let mut vectors: Vec<[f32; N]> = elements.iter().map(|element| elements.vector(element)).collect();
            if let Some(sparse) = &self.accessor(index)?.sparse {
                self.replace(sparse, &elements, &mut vectors)?;
            }
            match vectors.iter().position(|vector| !vector.iter().all(|number| number.is_finite())) {
                Some(place) => Err(format!("element {place} is {:?}; it must be finite", vectors[place])),
                None => Ok(vectors),
            }
        };
        read().map_err(|reason: String| format!("accessor {index}: {reason}"))
    }

    /// The numbers of an accessor of indices, each below `count`.
    ///
    /// # Errors
    /// It is not there, of another type, or an index is out of range.
    pub(super) fn indices(&self, index: usize, count: usize) -> Result<Vec<u32>, String> {
        let read = || {
            let elements = self.elements(index)?;
            let is_unsigned = matches!(elements.component, ComponentType::U8 | ComponentType::U16 | ComponentType::U32);
            if elements.kind != Type::Scalar || !is_unsigned {
                return Err(format!(
                    "it holds {:?} of {:?}; indices are needed here",
                    elements.kind, elements.component
                ));
            }
            if self.accessor(index)?.sparse.is_some() {
                return Err("it is sparse, which indices cannot be here: save it again without".to_owned());
            }
            let indices: Vec<u32> = elements.iter().map(self::index).collect();
            match indices.iter().position(|index| *index as usize >= count) {
                Some(place) => {
                    Err(format!("index {} (element {place}) is beyond the {count} vertices", indices[place]))
                }
                None => Ok(indices),
            }
        };
        read().map_err(|reason: String| format!("accessor {index}: {reason}"))
    }
}

impl Buffer<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Buffer::Chunk(bytes) => bytes,
            Buffer::Read(bytes) => bytes,
        }
    }
}

impl Elements<'_> {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map(|place| &self.bytes[place * self.stride..][..self.size])
    }

    fn vector<const N: usize>(&self, element: &[u8]) -> [f32; N] {
        let mut vector = [0.0; N];
        for (number, bytes) in vector.iter_mut().zip(element.chunks_exact(self.component.size())) {
            *number = self.number(bytes);
        }
        vector
    }

    /// Integers as glTF 2.0 (3.6.2.2) and `KHR_mesh_quantization` say.
    fn number(&self, bytes: &[u8]) -> f32 {
        let (number, largest) = match (self.component, bytes) {
            (ComponentType::I8, &[a]) => (f32::from(a as i8), 127.0),
            (ComponentType::U8, &[a]) => (f32::from(a), 255.0),
            (ComponentType::I16, &[a, b]) => (f32::from(i16::from_le_bytes([a, b])), 32767.0),
            (ComponentType::U16, &[a, b]) => (f32::from(u16::from_le_bytes([a, b])), 65535.0),
            (ComponentType::F32, &[a, b, c, d]) => return f32::from_le_bytes([a, b, c, d]),
            _ => return f32::NAN,
        };
        if self.is_normalized { (number / largest).max(-1.0) } else { number }
    }
}

/// The number of an element of indices.
fn index(bytes: &[u8]) -> u32 {
    match *bytes {
        [a] => u32::from(a),
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => u32::MAX,
    }
}

fn range(offset: u64, length: u64) -> Option<std::ops::Range<usize>> {
    let (start, end) = (offset, offset.checked_add(length)?);
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

/// What an index that leads nowhere is told.
pub(super) fn missing(name: &str, index: usize, count: usize) -> String {
    format!("{name} {index} does not exist, there are {count}")
}

/// The bytes of a data URI; `None` if it is another.
fn data_uri(uri: &str) -> Option<Result<Vec<u8>, String>> {
    let rest = uri.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).map(|_| &uri[5..])?;
    let coded = rest.split_once(',').filter(|(kind, _)| kind.ends_with(";base64")).map(|(_, coded)| coded);
    let decoded = coded.ok_or("its data URI is not base64: save it as .glb").and_then(|coded| {
        let coded = coded.trim_end_matches('=');
        base64_simd::STANDARD_NO_PAD
            .decode_to_vec(coded)
            .map_err(|_| "the base64 of its data URI is damaged: save it again")
    });
    Some(decoded.map_err(str::to_owned))
}

/// A relative URI as a path. What is decoded is looked at by [`Folder`], as any other name.
fn percent_decoded(uri: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(uri.len());
    let mut rest = uri.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |place: usize| after.get(place).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("its uri {} is not UTF-8", shown(uri)))
}
