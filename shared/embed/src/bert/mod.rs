//! The encoder of all-MiniLM-L6-v2: six layers of BERT (Devlin and others, 2019) with int8 weights, the mean of a
//! text's tokens as its vector. Weights are 7-bit and per output, activations 8-bit and per token: sums are then exact
//! in every kernel and no token depends on another text, so a text has one vector wherever it is made.
//! Must never index by a token it has not checked, nor by a shape the file says.

mod linear;
mod math;
#[cfg(test)]
mod tests;
mod tile;

use crate::tensors::Tensors;
use crate::vector::Vector;
use linear::{Linear, Quantised};
use tile::{Kernel, Plain, Tile};

/// Length of a token's, and of a text's, vector.
pub(crate) const WIDTH: usize = 384;
const LAYERS: usize = 6;
const HEADS: usize = 12;
const HEAD: usize = WIDTH / HEADS;
/// Width between the two halves of a layer's feed-forward network.
const INNER: usize = 1536;
/// Places in a text that the model knows.
const POSITIONS: usize = crate::MAX_TOKENS;
/// Tokens that go through the layers together: enough to read the weights rarely, few enough to stay in the cache.
const BATCH: usize = 128;

/// The weights, as the kernels want them.
#[derive(Debug)]
pub(crate) struct Bert {
    /// Tokens x `WIDTH`, and a scale a token.
    words: Vec<i8>,
    scales: Vec<f32>,
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    kernel: Kernel,
}

#[derive(Debug)]
struct Layer {
    /// Query, key and value, one after the other.
    attend: Linear,
    mix: Linear,
    mixed: Norm,
    widen: Linear,
    narrow: Linear,
    narrowed: Norm,
}

/// Gain and shift after a row is brought to mean 0 and variance 1.
#[derive(Debug)]
struct Norm {
    gain: Vec<f32>,
    shift: Vec<f32>,
}

impl Norm {
    fn new(tensors: &Tensors<'_>, name: &str) -> Result<Self, String> {
        let get = |part: &str| tensors.floats(&format!("{name}.{part}"), &[WIDTH]);
        Ok(Self { gain: get("weight")?, shift: get("bias")? })
    }
}

impl Layer {
    fn new(tensors: &Tensors<'_>, number: usize) -> Result<Self, String> {
        let name = |part: &str| format!("encoder.layer.{number}.{part}");
        let linear = |parts: &[&str], outputs, inputs| {
            let names: Vec<String> = parts.iter().map(|part| name(part)).collect();
            Linear::new(tensors, &names, outputs, inputs)
        };
        let attend = ["attention.self.query", "attention.self.key", "attention.self.value"];
        Ok(Self {
            attend: linear(&attend, WIDTH, WIDTH)?,
            mix: linear(&["attention.output.dense"], WIDTH, WIDTH)?,
            mixed: Norm::new(tensors, &name("attention.output.LayerNorm"))?,
            widen: linear(&["intermediate.dense"], INNER, WIDTH)?,
            narrow: linear(&["output.dense"], WIDTH, INNER)?,
            narrowed: Norm::new(tensors, &name("output.LayerNorm"))?,
        })
    }
}

impl Bert {
    /// From `model.safetensors`, for a vocabulary of this many tokens.
    pub(crate) fn new(file: &[u8], tokens: usize) -> Result<Self, String> {
        let tensors = Tensors::new(file)?;
        Ok(Self {
            words: tensors.bytes("embeddings.word_embeddings.weight", &[tokens, WIDTH])?,
            scales: tensors.floats("embeddings.word_embeddings.scale", &[tokens])?,
            positions: tensors.floats("embeddings.position_embeddings.weight", &[POSITIONS, WIDTH])?,
            norm: Norm::new(&tensors, "embeddings.LayerNorm")?,
            layers: (0..LAYERS).map(|number| Layer::new(&tensors, number)).collect::<Result<_, _>>()?,
            kernel: Kernel::best(),
        })
    }

    /// One vector a text, given its tokens, at most `MAX_TOKENS` of them.
    pub(crate) fn embed(&self, texts: &[Vec<u32>]) -> Vec<Vector> {
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|text| {
                tokens += text.len();
                tokens <= BATCH
            });
            let (batch, after) = rest.split_at(fits.count().max(1));
            vectors.extend(self.run(batch));
            rest = after;
        }
        vectors
    }

    /// The same code, compiled for the processor at hand.
    fn run(&self, texts: &[Vec<u32>]) -> Vec<Vector> {
        match self.kernel {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kernel::best` saw that the processor has what this is compiled for.
            Kernel::Avx512 => unsafe { self.run_avx512(texts) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Avx2 => unsafe { self.run_avx2(texts) },
            Kernel::Plain => self.forward::<Plain>(texts),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2")]
    fn run_avx512(&self, texts: &[Vec<u32>]) -> Vec<Vector> {
        self.forward::<tile::Avx512>(texts)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn run_avx2(&self, texts: &[Vec<u32>]) -> Vec<Vector> {
        self.forward::<tile::Avx2>(texts)
    }

    /// All tokens of all texts as the rows of one matrix; only attention knows where a text ends.
    #[inline(always)]
    fn forward<T: Tile>(&self, texts: &[Vec<u32>]) -> Vec<Vector> {
        let mut rows = self.look_up(texts);
        let count = rows.len() / WIDTH;
        let mut quantised = Quantised::default();
        let mut attended = vec![0.0; count * WIDTH * 3];
        let mut context = vec![0.0; count * WIDTH];
        let mut inner = vec![0.0; count * INNER];
        math::normalise(&mut rows, &self.norm.gain, &self.norm.shift);
        for layer in &self.layers {
            quantised.fill(&rows, WIDTH);
            layer.attend.apply::<T>(&quantised, &mut attended);
            let mut start = 0;
            for text in texts {
                let end = start + text.len();
                let (from, to) = (&attended[start * WIDTH * 3..end * WIDTH * 3], start * WIDTH..end * WIDTH);
                math::attend::<HEADS, HEAD>(from, &mut context[to]);
                start = end;
            }
            quantised.fill(&context, WIDTH);
            layer.mix.apply::<T>(&quantised, &mut context);
            math::add(&mut rows, &context);
            math::normalise(&mut rows, &layer.mixed.gain, &layer.mixed.shift);
            quantised.fill(&rows, WIDTH);
            layer.widen.apply::<T>(&quantised, &mut inner);
            math::gelu(&mut inner);
            quantised.fill(&inner, INNER);
            layer.narrow.apply::<T>(&quantised, &mut context);
            math::add(&mut rows, &context);
            math::normalise(&mut rows, &layer.narrowed.gain, &layer.narrowed.shift);
        }
        means(&rows, texts)
    }

    /// What a token is worth by itself, and by its place.
    fn look_up(&self, texts: &[Vec<u32>]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(texts.iter().map(Vec::len).sum::<usize>() * WIDTH);
        for text in texts {
            for (token, position) in text.iter().zip(self.positions.chunks_exact(WIDTH)) {
                let token = *token as usize;
                let (word, scale) = (&self.words[token * WIDTH..][..WIDTH], self.scales[token]);
                rows.extend(
                    word.iter().zip(position).map(|(word, position)| f32::from(*word) * scale + position),
                );
            }
        }
        rows
    }
}

/// The mean of each text's rows, which is its vector.
fn means(rows: &[f32], texts: &[Vec<u32>]) -> Vec<Vector> {
    let mut rows = rows.chunks_exact(WIDTH);
    let mean = |text: &Vec<u32>| {
        let mut sum = vec![0.0; WIDTH];
        rows.by_ref().take(text.len()).for_each(|row| math::add(&mut sum, row));
        Vector::of(&sum)
    };
    texts.iter().map(mean).collect()
}
