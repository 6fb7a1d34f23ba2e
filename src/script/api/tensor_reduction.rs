//! Tensors made smaller: sums, means, extremes, norms, and what is along one dimension.

use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::tensor::{as_mask, shape_mistake, values_and_indices, wrap};
use crate::Error;
use rhai::plugin::*;
use rhai::Map;

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// Numbers on a device, with their gradients.
    pub type Tensor = Handle<tch::Tensor>;

    /// The sum of all numbers.
    ///
    /// ```rhai
    /// print(tensor([1, 2]).sum().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn sum(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sum(None))
    }

    /// The sum over one dimension; negative dimensions count from the last.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).sum(-1).to_array());
    /// ```
    #[rhai_fn(name = "sum", global, pure, return_raw)]
    pub fn sum_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sum_dim_intlist(dim, false, None))
    }

    /// The sum over one dimension, which stays with size 1 where `keepdim` is true.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).sum(-1, true).shape);
    /// ```
    #[rhai_fn(name = "sum", global, pure, return_raw)]
    pub fn sum_keepdim(x: &mut Tensor, dim: i64, keepdim: bool) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_sum_dim_intlist(dim, keepdim, None))
    }

    /// The mean of all numbers.
    ///
    /// ```rhai
    /// print(tensor([1, 2]).mean().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn mean(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_mean(None))
    }

    /// The mean over one dimension; negative dimensions count from the last.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).mean(-1).to_array());
    /// ```
    #[rhai_fn(name = "mean", global, pure, return_raw)]
    pub fn mean_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_mean_dim(dim, false, None))
    }

    /// The mean over one dimension, which stays with size 1 where `keepdim` is true.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).mean(-1, true).shape);
    /// ```
    #[rhai_fn(name = "mean", global, pure, return_raw)]
    pub fn mean_keepdim(x: &mut Tensor, dim: i64, keepdim: bool) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_mean_dim(dim, keepdim, None))
    }

    /// The mean of the entries where the mask is neither 0 nor false.
    ///
    /// The mask may have fewer dimensions, as in torch's broadcasting.
    ///
    /// ```rhai
    /// let loss = tensor([[1.0, 3.0], [5.0, 100.0]]);
    /// print(loss.masked_mean(tensor([[1, 1], [1, 0]])).item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn masked_mean(x: &mut Tensor, mask: Tensor) -> RhaiResultOf<Tensor> {
        let x = x.read()?;
        let mask = as_mask(&*mask.read()?)?.f_expand_as(&x).map_err(|error| shape_mistake(error.into()))?;
        if mask.f_any().and_then(|any| any.f_int64_value(&[])).map_err(Error::from)? == 0 {
            return Err(Error::input("masked_mean: expected a mask with an entry that is not 0, found none").into());
        }
        let kept = x.f_masked_select(&mask).map_err(Error::from)?;
        wrap(kept.f_mean(None))
    }

    /// The largest number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 3.0, 2.0]).max().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn max(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_max())
    }

    /// The largest numbers over one dimension: a map of `values` and `indices`, as in torch.
    ///
    /// ```rhai
    /// let best = tensor([[1.0, 3.0], [4.0, 2.0]]).max(-1);
    /// print(best.values.to_array());
    /// print(best.indices.to_array());
    /// ```
    #[rhai_fn(name = "max", global, pure, return_raw)]
    pub fn max_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Map> {
        values_and_indices(x.read()?.f_max_dim(dim, false))
    }

    /// The index of the largest number, counted row after row.
    ///
    /// ```rhai
    /// print(tensor([1.0, 3.0, 2.0]).argmax().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn argmax(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_argmax(None, false))
    }

    /// The indices of the largest numbers over one dimension.
    ///
    /// ```rhai
    /// print(tensor([[1.0, 3.0], [4.0, 2.0]]).argmax(-1).to_array());
    /// ```
    #[rhai_fn(name = "argmax", global, pure, return_raw)]
    pub fn argmax_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_argmax(dim, false))
    }

    /// The smallest number.
    ///
    /// ```rhai
    /// print(tensor([1.0, 3.0, 2.0]).min().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn min(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_min())
    }

    /// The smallest numbers over one dimension: a map of `values` and `indices`, as in torch.
    ///
    /// ```rhai
    /// let best = tensor([[1.0, 3.0], [4.0, 2.0]]).min(-1);
    /// print(best.values.to_array());
    /// print(best.indices.to_array());
    /// ```
    #[rhai_fn(name = "min", global, pure, return_raw)]
    pub fn min_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Map> {
        values_and_indices(x.read()?.f_min_dim(dim, false))
    }

    /// The index of the smallest number, counted row after row.
    ///
    /// ```rhai
    /// print(tensor([1.0, 3.0, 2.0]).argmin().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn argmin(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_argmin(None, false))
    }

    /// The indices of the smallest numbers over one dimension.
    ///
    /// ```rhai
    /// print(tensor([[1.0, 3.0], [4.0, 2.0]]).argmin(-1).to_array());
    /// ```
    #[rhai_fn(name = "argmin", global, pure, return_raw)]
    pub fn argmin_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_argmin(dim, false))
    }

    /// The `k` largest numbers of the last dimension, largest first: a map of `values` and `indices`.
    ///
    /// ```rhai
    /// print(tensor([1.0, 3.0, 2.0]).topk(2).indices.to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn topk(x: &mut Tensor, k: i64) -> RhaiResultOf<Map> {
        values_and_indices(x.read()?.f_topk(k, -1, true, true))
    }

    /// The `k` largest numbers over one dimension, largest first: a map of `values` and `indices`.
    ///
    /// ```rhai
    /// print(tensor([[1.0, 3.0], [4.0, 2.0]]).topk(1, 0).values.to_array());
    /// ```
    #[rhai_fn(name = "topk", global, pure, return_raw)]
    pub fn topk_dim(x: &mut Tensor, k: i64, dim: i64) -> RhaiResultOf<Map> {
        values_and_indices(x.read()?.f_topk(k, dim, true, true))
    }

    /// The numbers of one dimension in order, from the smallest or, where `descending`, from the largest.
    ///
    /// Returns a map of `values` and `indices`, as in torch.
    ///
    /// ```rhai
    /// print(tensor([3.0, 1.0, 2.0]).sort(-1, true).values.to_array());
    /// ```
    #[rhai_fn(name = "sort", global, pure, return_raw)]
    pub fn sort_dim(x: &mut Tensor, dim: i64, descending: bool) -> RhaiResultOf<Map> {
        values_and_indices(x.read()?.f_sort(dim, descending))
    }

    /// The running sum along one dimension.
    ///
    /// ```rhai
    /// print(tensor([1, 2, 3]).cumsum(0).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn cumsum(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_cumsum(dim, None))
    }

    /// The product of all numbers.
    ///
    /// ```rhai
    /// print(tensor([2, 3]).prod().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn prod(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_prod(None))
    }

    /// The Euclidean norm of all numbers.
    ///
    /// ```rhai
    /// print(tensor([3.0, 4.0]).norm().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn norm(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_norm())
    }

    /// The norm of order `p` over one dimension.
    ///
    /// ```rhai
    /// print(tensor([[3.0, 4.0]]).norm(2, -1).to_array());
    /// ```
    #[rhai_fn(name = "norm", global, pure, return_raw)]
    pub fn norm_dim(x: &mut Tensor, p: i64, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_norm_scalaropt_dim(p, dim, false))
    }

    /// The sample standard deviation of all numbers: divided by n - 1, as in torch.
    ///
    /// ```rhai
    /// print(tensor([1.0, 2.0, 3.0]).std().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn std(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_std(true))
    }

    /// The sample standard deviation over one dimension.
    ///
    /// ```rhai
    /// print(tensor([[1.0, 2.0], [3.0, 5.0]]).std(-1).to_array());
    /// ```
    #[rhai_fn(name = "std", global, pure, return_raw)]
    pub fn std_dim(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_std_dim(dim, true, false))
    }

    /// The sample standard deviation over one dimension, which stays with size 1 where `keepdim` is true.
    ///
    /// ```rhai
    /// print(tensor([[1.0, 2.0], [3.0, 5.0]]).std(-1, true).shape);
    /// ```
    #[rhai_fn(name = "std", global, pure, return_raw)]
    pub fn std_keepdim(x: &mut Tensor, dim: i64, keepdim: bool) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_std_dim(dim, true, keepdim))
    }

    /// True if an entry is neither 0 nor false.
    ///
    /// ```rhai
    /// print(tensor([0, 1]).any().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn any(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_any())
    }

    /// True if no entry is 0 or false.
    ///
    /// ```rhai
    /// print(tensor([0, 1]).all().item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn all(x: &mut Tensor) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_all())
    }

    /// The logarithm of the sum of exponentials over one dimension, without overflow.
    ///
    /// ```rhai
    /// print(tensor([1000.0, 1000.0]).logsumexp(-1).item());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn logsumexp(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_logsumexp(dim, false))
    }

    /// The logarithm of the softmax over one dimension.
    ///
    /// ```rhai
    /// print(tensor([1, 2]).log_softmax(-1).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn log_softmax(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_log_softmax(dim, None))
    }

    /// The softmax over one dimension.
    ///
    /// ```rhai
    /// print(tensor([1, 2]).softmax(-1).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn softmax(x: &mut Tensor, dim: i64) -> RhaiResultOf<Tensor> {
        wrap(x.read()?.f_softmax(dim, None))
    }
}
