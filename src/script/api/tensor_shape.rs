//! Tensors in other shapes, parts of them, and several as one.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::tensor::{as_index, as_mask, indexed, sizes, tensors, wrap};
use rhai::plugin::*;
use rhai::{Array, Dynamic};

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Numbers on a device, with their gradients.
    pub type Tensor = Handle<tch::Tensor>;

    /// A part of the first dimension: one entry, a range, several entries, or those where a mask is true.
    ///
    /// A whole number gives one entry, negative ones count from the end. A range, an array of whole numbers or a tensor of
    /// them gives several. A tensor of `true` and `false`, as from `x.gt(0)`, gives the entries where it is true.
    ///
    /// ```rhai
    /// let x = tensor([[1, 2], [3, 4], [5, 6]]);
    /// print(x[0].to_array());
    /// print(x[-1][0].item());
    /// print(x[0..2].shape);
    /// print(x[[2, 0]].to_array());
    /// print(x[x.gt(2)].to_array());
    /// ```
    #[rhai_fn(index_get, return_raw)]
    pub fn entry(x: &mut Tensor, index: Dynamic) -> RhaiResultOf<Tensor> {
        Ok(indexed(&*x.read()?, &index)?)
    }

    /// One entry of a dimension, which is dropped.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).select(1, -1).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn select(x: &mut Tensor, dim: i64, index: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_select(dim, index))
    }

    /// A part of one dimension: `length` entries from `start` on.
    ///
    /// ```rhai
    /// print(tensor([1, 2, 3]).narrow(0, 1, 2).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn narrow(x: &mut Tensor, dim: i64, start: i64, length: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_narrow(dim, start, length))
    }

    /// The entries at the given numbers of one dimension, one for each position of the others.
    ///
    /// ```rhai
    /// let scores = tensor([[0.1, 0.9], [0.8, 0.2]]);
    /// print(scores.gather(1, tensor([[1], [0]])).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn gather(x: &mut Tensor, dim: i64, index: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_gather(dim, &as_index("gather", &*index.read()?)?, false))
    }

    /// The entries of one dimension that a tensor of whole numbers lists.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).index_select(1, tensor([1])).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn index_select(x: &mut Tensor, dim: i64, index: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_index_select(dim, &as_index("index_select", &*index.read()?)?))
    }

    /// The entries where the mask is neither 0 nor false, as one dimension.
    ///
    /// ```rhai
    /// print(tensor([1, 2, 3]).masked_select(tensor([1, 0, 1])).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn masked_select(x: &mut Tensor, mask: Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_masked_select(&as_mask(&*mask.read()?)?))
    }

    /// Two dimensions exchanged.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).transpose(0, 1).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn transpose(x: &mut Tensor, dim: i64, other: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_transpose(dim, other))
    }

    /// The transpose of a matrix.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).t().to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn t(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_tr())
    }

    /// The dimensions in another order.
    ///
    /// ```rhai
    /// print(tensor([[[1, 2]]]).permute([2, 0, 1]).shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn permute(x: &mut Tensor, dims: Array) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_permute(sizes("permute", &dims)?))
    }

    /// The same entries in another shape; one size may be -1 and follows from the others.
    ///
    /// ```rhai
    /// print(tensor([1, 2, 3, 4]).reshape([2, -1]).shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn reshape(x: &mut Tensor, shape: Array) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_reshape(sizes("reshape", &shape)?))
    }

    /// All entries as one dimension.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).flatten().shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn flatten(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_flatten(0, -1))
    }

    /// A new dimension of size 1 at this place.
    ///
    /// ```rhai
    /// print(tensor([1, 2]).unsqueeze(0).shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn unsqueeze(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_unsqueeze(dim))
    }

    /// The tensor without its dimensions of size 1.
    ///
    /// ```rhai
    /// print(tensor([[1, 2]]).squeeze().shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn squeeze(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_squeeze())
    }

    /// The tensor without this dimension, where its size is 1.
    ///
    /// ```rhai
    /// print(tensor([[1, 2]]).squeeze(0).shape);
    /// ```
    #[rhai_fn(name = "squeeze", global, pure, return_raw)]
    pub fn squeeze_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_squeeze_dim(dim))
    }

    /// Dimensions of size 1 repeated to the sizes given; -1 leaves one as it is.
    ///
    /// ```rhai
    /// print(tensor([[1], [2]]).expand([2, 3]).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn expand(x: &mut Tensor, shape: Array) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_expand(sizes("expand", &shape)?, false))
    }

    /// The entries of a dimension from the last to the first.
    ///
    /// ```rhai
    /// print(tensor([1, 2, 3]).flip(0).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn flip(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_flip([dim]))
    }

    /// Several tensors one after another, along a dimension that they have.
    ///
    /// ```rhai
    /// print(cat([tensor([1]), tensor([2, 3])], 0).to_array());
    /// ```
    #[rhai_fn(return_raw)]
    pub fn cat(items: Array, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(tch::Tensor::f_cat(&tensors("cat", &items)?, dim))
    }

    /// Several tensors of one shape side by side, along a new dimension.
    ///
    /// ```rhai
    /// print(stack([tensor([1, 2]), tensor([3, 4])], 0).shape);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn stack(items: Array, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(tch::Tensor::f_stack(&tensors("stack", &items)?, dim))
    }
}
