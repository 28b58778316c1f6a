//! Reads the safetensors format: a length, a header in JSON, and the numbers. Every offset and shape is checked, so
//! that a file which says something else than the model expects is an error in words. Does no I/O.

use serde::Deserialize;
use std::collections::HashMap;

/// Longest header, in bytes; the format allows 100 MB, this model's has 10 KB.
const MAX_HEADER: usize = 1 << 20;

/// The tensors of one file, by name.
pub(crate) struct Tensors<'a> {
    header: HashMap<String, Entry>,
    data: &'a [u8],
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Tensor {
        dtype: String,
        shape: Vec<usize>,
        data_offsets: [usize; 2],
    },
    /// `__metadata__`: free words.
    Words(#[allow(dead_code, reason = "read to be told apart from a tensor")] HashMap<String, String>),
}

impl<'a> Tensors<'a> {
    pub(crate) fn new(file: &'a [u8]) -> Result<Self, String> {
        let (length, rest) = file.split_first_chunk::<8>().ok_or("is too short for a safetensors file")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_HEADER || length > rest.len() {
            return Err("is no safetensors file: its header would be longer than the file may be".to_owned());
        }
        let (header, data) = rest.split_at(length);
        let header = serde_json::from_slice(header).map_err(|error| format!("has a bad header: {error}"))?;
        Ok(Self { header, data })
    }

    /// A tensor of 8-bit integers of exactly this shape.
    pub(crate) fn bytes(&self, name: &str, shape: &[usize]) -> Result<Vec<i8>, String> {
        Ok(self.get(name, "I8", 1, shape)?.iter().map(|byte| byte.cast_signed()).collect())
    }

    /// A tensor of 32-bit floats of exactly this shape, all of them finite.
    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let data = self.get(name, "F32", 4, shape)?;
        let floats: Vec<f32> =
            data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if !floats.iter().all(|float| float.is_finite()) {
            return Err(format!("the tensor {name} has numbers that are not finite"));
        }
        Ok(floats)
    }

    /// The shape of a tensor, for what the file itself decides.
    pub(crate) fn shape(&self, name: &str) -> Result<&[usize], String> {
        match self.header.get(name) {
            Some(Entry::Tensor { shape, .. }) => Ok(shape),
            Some(Entry::Words(_)) | None => Err(format!("has no tensor {name}: is it another model?")),
        }
    }

    fn get(&self, name: &str, kind: &str, width: usize, wanted: &[usize]) -> Result<&'a [u8], String> {
        let Some(Entry::Tensor { dtype, shape, data_offsets: [start, end] }) = self.header.get(name) else {
            return Err(format!("has no tensor {name}: is it another model?"));
        };
        if dtype != kind || shape != wanted {
            return Err(format!(
                "the tensor {name} is {dtype} {shape:?} and not {kind} {wanted:?}: is it another model?"
            ));
        }
        let data = self.data.get(*start..*end).ok_or_else(|| format!("is cut within the tensor {name}"))?;
        if data.len() != wanted.iter().product::<usize>() * width {
            return Err(format!("the tensor {name} has {} bytes, too many or too few", data.len()));
        }
        Ok(data)
    }
}
