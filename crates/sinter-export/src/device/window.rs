//! Windows that slide over height and width.

/// A window that slides over height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window2d {
    /// Height and width of the window.
    pub kernel: [i64; 2],
    /// Places from one position to the next.
    pub stride: [i64; 2],
    /// Places from one tap to the next.
    pub dilation: [i64; 2],
    /// Rows above and columns to the left of the input that the window sees.
    pub begin: [i64; 2],
    /// Whether the output has one position for each stride; else the window keeps inside the input.
    pub same: bool,
}

/// What a convolution or a pool slides over: lengths as height and width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// Height and width of the input.
    pub input: [i64; 2],
    /// Its channels.
    pub in_channels: i64,
    /// Height and width of the output.
    pub output: [i64; 2],
    /// Its channels.
    pub out_channels: i64,
    /// The window.
    pub window: Window2d,
}

impl Geometry {
    /// Shows every output position with the input positions that its window sees, and which tap of the kernel sees each.
    pub(crate) fn positions(&self, mut visit: impl FnMut(i64, &[(i64, i64)])) {
        let Geometry { input, output, window, .. } = self;
        let mut taps = Vec::new();
        for y in 0..output[0] {
            for x in 0..output[1] {
                taps.clear();
                for i in 0..window.kernel[0] {
                    for j in 0..window.kernel[1] {
                        let row = y * window.stride[0] + i * window.dilation[0] - window.begin[0];
                        let column = x * window.stride[1] + j * window.dilation[1] - window.begin[1];
                        if (0..input[0]).contains(&row) && (0..input[1]).contains(&column) {
                            taps.push((row * input[1] + column, i * window.kernel[1] + j));
                        }
                    }
                }
                visit(y * output[1] + x, &taps);
            }
        }
    }
}
