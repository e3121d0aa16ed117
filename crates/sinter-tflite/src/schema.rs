//! Tables of TensorFlow's `schema.fbs` (version 3), as far as they are read. Each is verified with all that it points to before any field is.

use flatbuffers::{Follow, ForwardsUOffset, InvalidFlatbuffer, Table, VOffsetT, Vector, Verifiable, Verifier, VerifierOptions};

/// The place of a field in its table.
const fn slot(field: VOffsetT) -> VOffsetT {
    4 + 2 * field
}

type Text<'a> = ForwardsUOffset<&'a str>;
type List<'a, T> = ForwardsUOffset<Vector<'a, T>>;
type Tables<'a, T> = List<'a, ForwardsUOffset<T>>;

/// A table whose fields are read by their numbers.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident $life:lifetime { $($field:ident: $number:literal, $type:ty;)* } $($more:ident)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name<$life>(Table<$life>);

        impl<$life> Follow<$life> for $name<$life> {
            type Inner = Self;

            // SAFETY: callers hold, as the trait demands, that a table lies there.
            unsafe fn follow(bytes: &$life [u8], at: usize) -> Self {
                Self(unsafe { Table::new(bytes, at) })
            }
        }

        impl<$life> Verifiable for $name<$life> {
            fn run_verifier(verifier: &mut Verifier, at: usize) -> Result<(), InvalidFlatbuffer> {
                let table = verifier.visit_table(at)?;
                $(let table = table.visit_field::<$type>(stringify!($field), slot($number), false)?;)*
                $(let table = $more(table)?;)?
                table.finish();
                Ok(())
            }
        }

        impl<$life> $name<$life> {
            $(pub(crate) fn $field(&self) -> Option<<$type as Follow<$life>>::Inner> {
                // SAFETY: the verifier found a value of this type there, or none.
                unsafe { self.0.get::<$type>(slot($number), None) }
            })*
        }
    };
}

table! {
    /// A file.
    Model 'a {
        version: 0, u32;
        codes: 1, Tables<'a, Code<'a>>;
        subgraphs: 2, Tables<'a, Subgraph<'a>>;
        buffers: 4, Tables<'a, Buffer<'a>>;
        metadata: 6, Tables<'a, Metadata<'a>>;
    }
}

table! {
    /// A text or blob beside the graph.
    Metadata 'a { name: 0, Text<'a>; buffer: 1, u32; }
}

table! {
    /// Which operator.
    Code 'a { byte: 0, i8; custom: 1, Text<'a>; number: 3, i32; }
}

table! {
    /// A graph.
    Subgraph 'a {
        tensors: 0, Tables<'a, Tensor<'a>>;
        inputs: 1, List<'a, i32>;
        outputs: 2, List<'a, i32>;
        operators: 3, Tables<'a, Operator<'a>>;
    }
}

table! {
    /// A value.
    Tensor 'a {
        shape: 0, List<'a, i32>;
        element: 1, i8;
        buffer: 2, u32;
        name: 3, Text<'a>;
        quantization: 4, ForwardsUOffset<Quantization<'a>>;
        variable: 5, bool;
    }
}

table! {
    /// What a tensor's integers stand for.
    Quantization 'a { scales: 2, List<'a, f32>; zero_points: 3, List<'a, i64>; axis: 6, i32; }
}

table! {
    /// Stored bytes.
    Buffer 'a { data: 0, List<'a, u8>; offset: 1, u64; }
}

table! {
    /// One application of an operator.
    Operator 'a {
        code: 0, u32;
        inputs: 1, List<'a, i32>;
        outputs: 2, List<'a, i32>;
        options_kind: 3, u8;
    } options
}

/// The options of an operator, by their number in the union.
fn options<'v, 'o, 'b>(
    table: flatbuffers::TableVerifier<'v, 'o, 'b>,
) -> Result<flatbuffers::TableVerifier<'v, 'o, 'b>, InvalidFlatbuffer> {
    table.visit_union::<u8, _>("options_kind", slot(3), "options", slot(4), false, |kind, verifier, at| match kind {
        1 => verifier.verify_union_variant::<ForwardsUOffset<Conv>>("Conv2DOptions", at),
        2 => verifier.verify_union_variant::<ForwardsUOffset<Depthwise>>("DepthwiseConv2DOptions", at),
        5 => verifier.verify_union_variant::<ForwardsUOffset<Pool>>("Pool2DOptions", at),
        8 | 11 | 21 | 28 => verifier.verify_union_variant::<ForwardsUOffset<Fused>>("options with an activation", at),
        9 | 75 => verifier.verify_union_variant::<ForwardsUOffset<Number>>("options of a number", at),
        10 => verifier.verify_union_variant::<ForwardsUOffset<Concatenation>>("ConcatenationOptions", at),
        27 => verifier.verify_union_variant::<ForwardsUOffset<Reducer>>("ReducerOptions", at),
        _ => Ok(()),
    })
}

table! {
    /// `Conv2DOptions`.
    Conv 'a { padding: 0, i8; stride_w: 1, i32; stride_h: 2, i32; activation: 3, i8; dilation_w: 4, i32; dilation_h: 5, i32; }
}

table! {
    /// `DepthwiseConv2DOptions`.
    Depthwise 'a { padding: 0, i8; stride_w: 1, i32; stride_h: 2, i32; activation: 4, i8; dilation_w: 5, i32; dilation_h: 6, i32; }
}

table! {
    /// `Pool2DOptions`.
    Pool 'a { padding: 0, i8; stride_w: 1, i32; stride_h: 2, i32; width: 3, i32; height: 4, i32; activation: 5, i8; }
}

table! {
    /// Options that begin with an activation: of FullyConnected, Add, Sub and Mul.
    Fused 'a { activation: 0, i8; }
}

table! {
    /// Options of one number: the beta of Softmax, the alpha of LeakyRelu.
    Number 'a { value: 0, f32; }
}

table! {
    /// `ConcatenationOptions`.
    Concatenation 'a { axis: 0, i32; activation: 1, i8; }
}

table! {
    /// `ReducerOptions`.
    Reducer 'a { keeps: 0, bool; }
}

/// Options as they were verified.
pub(crate) enum Options<'a> {
    Conv(Conv<'a>),
    Depthwise(Depthwise<'a>),
    Pool(Pool<'a>),
    Fused(Fused<'a>),
    Number(Number<'a>),
    Concatenation(Concatenation<'a>),
    Reducer(Reducer<'a>),
    /// None, or some that nothing here reads.
    None,
}

impl<'a> Operator<'a> {
    /// Its options, by the number that the verifier saw.
    pub(crate) fn options(&self) -> Options<'a> {
        /// The table that the union points to.
        fn read<'a, T: Follow<'a, Inner = T> + 'a>(operator: &Operator<'a>) -> Option<T> {
            // SAFETY: called with the type that the verifier looked for under the same number.
            unsafe { operator.0.get::<ForwardsUOffset<T>>(slot(4), None) }
        }
        match self.options_kind().unwrap_or(0) {
            1 => read(self).map(Options::Conv),
            2 => read(self).map(Options::Depthwise),
            5 => read(self).map(Options::Pool),
            8 | 11 | 21 | 28 => read(self).map(Options::Fused),
            9 | 75 => read(self).map(Options::Number),
            10 => read(self).map(Options::Concatenation),
            27 => read(self).map(Options::Reducer),
            _ => None,
        }
        .unwrap_or(Options::None)
    }
}

/// The file as verified tables.
pub(crate) fn model(bytes: &[u8]) -> Result<Model<'_>, String> {
    if bytes.get(4..8) != Some(b"TFL3") {
        return Err("it has no TFL3 at its beginning".into());
    }
    let options =
        VerifierOptions { max_depth: 16, max_tables: 1_000_000, max_apparent_size: 1 << 33, ..VerifierOptions::default() };
    flatbuffers::root_with_opts::<Model>(&options, bytes)
        .map_err(|e| e.to_string().lines().next().unwrap_or_default().to_string())
}
