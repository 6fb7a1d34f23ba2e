//! Processes that add up tensors: libtorch's process group over gloo, on one machine or several.
//!
//! No crate is used: tch binds none of libtorch's communication, and MPI's crate needs an MPI on every machine. What
//! libtorch's headers lack for it is declared in `gloo_declarations/`.

use super::{checked, raw, Raw};
use crate::bail;
use crate::error::{Error, Kind, Result};
use std::ffi::{c_char, c_int, c_void, CString};
use std::ptr::{null, null_mut, NonNull};
use std::time::Duration;
use tch::{no_grad, Kind as Dtype, Tensor};

extern "C" {
    fn lorhai_store(
        host: *const c_char,
        port: *mut c_int,
        is_server: bool,
        timeout: i64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn lorhai_store_free(store: *mut c_void);
    fn lorhai_group(
        store: *const c_void,
        prefix: *const c_char,
        host: *const c_char,
        rank: c_int,
        size: c_int,
        timeout: i64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn lorhai_group_sum(group: *mut c_void, tensors: *const Raw, count: c_int) -> *mut c_char;
    fn lorhai_group_broadcast(group: *mut c_void, tensor: Raw, from: c_int) -> *mut c_char;
    fn lorhai_group_free(group: *mut c_void);
}

/// How processes find each other: a store at an address that all know.
#[derive(Debug)]
pub struct Store {
    raw: NonNull<c_void>,
    pub port: u16,
}

impl Store {
    /// Serves a store at `port` of this machine; 0 lets the system choose.
    ///
    /// # Errors
    /// A port that is taken.
    pub fn serve(host: &str, port: u16, timeout: Duration) -> Result<Self> {
        Self::at(host, port, true, timeout)
    }

    /// The store that another process serves. Waits until it does.
    ///
    /// # Errors
    /// Nobody serves it in time.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self> {
        Self::at(host, port, false, timeout)
    }

    fn at(host: &str, port: u16, is_server: bool, timeout: Duration) -> Result<Self> {
        let name = text(host)?;
        let (mut chosen, mut out) = (c_int::from(port), null_mut());
        // SAFETY: the text and both results outlive the call, and C++ exceptions are caught.
        let outcome = unsafe { lorhai_store(name.as_ptr(), &mut chosen, is_server, milliseconds(timeout), &mut out) };
        checked(outcome).map_err(|error| {
            let verb = if is_server { "serve" } else { "reach" };
            Error::input(format!("cannot {verb} the rendezvous at {host}:{port}: {}", error.message))
        })?;
        Ok(Store { raw: not_null(out)?, port: u16::try_from(chosen).unwrap_or(port) })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by `lorhai_store`, and given up here.
        unsafe { lorhai_store_free(self.raw.as_ptr()) };
    }
}

/// One of several processes.
#[derive(Debug)]
pub struct Group {
    raw: NonNull<c_void>,
    /// Of this process, from 0.
    pub rank: usize,
    /// The number of processes.
    pub size: usize,
    timeout: Duration,
    /// Serves the others, where it is this process's.
    _store: Store,
}

/// Who joins a [`Group`], and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub rank: usize,
    pub size: usize,
    /// Distinguishes this group from others in the same store.
    pub prefix: String,
    /// The address of this machine for the others. `None`: what its name means, or the network that `GLOO_SOCKET_IFNAME`
    /// names.
    pub host: Option<String>,
    /// How long a process waits for the others.
    pub timeout: Duration,
}

impl Group {
    /// Waits until all processes have joined.
    ///
    /// # Errors
    /// One does not come in time, or cannot be reached.
    pub fn join(store: Store, membership: &Membership) -> Result<Self> {
        let Membership { rank, size, ref prefix, ref host, timeout } = *membership;
        let (prefix, host) = (text(prefix)?, host.as_deref().map(text).transpose()?);
        let host = host.as_ref().map_or(null(), |host| host.as_ptr());
        let (own, all) = (c_int::try_from(rank).unwrap_or(-1), c_int::try_from(size).unwrap_or(-1));
        let mut out = null_mut();
        // SAFETY: the store, the texts and the result outlive the call, and C++ exceptions are caught.
        checked(unsafe {
            lorhai_group(store.raw.as_ptr(), prefix.as_ptr(), host, own, all, milliseconds(timeout), &mut out)
        })
        .map_err(|error| {
            Error::input(format!("process {rank} of {size} cannot join the others: {}", error.message))
                .with_hint("start all of them; on several machines, GLOO_SOCKET_IFNAME names the network to use")
        })?;
        let group = Group { raw: not_null(out)?, rank, size, timeout, _store: store };
        group.ensure_adds_up()?;
        Ok(group)
    }

    /// Fails where libtorch's group is not what its headers say.
    fn ensure_adds_up(&self) -> Result<()> {
        let sums = Tensor::f_from_slice(&[1_i64, self.rank as i64])?;
        self.sum(&[&sums])?;
        let (sums, size) = (Vec::<i64>::try_from(&sums)?, self.size as i64);
        if sums == [size, size * (size - 1) / 2] {
            return Ok(());
        }
        bail!(
            Kind::Bug,
            "{size} processes added up to {sums:?}: this libtorch is not the one that lorhai was built for"
        )
    }

    /// Replaces tensors on the CPU by their sums over all processes, which are the same in each to the last bit.
    ///
    /// # Errors
    /// A process that ended, or does not answer in time.
    pub fn sum(&self, tensors: &[&Tensor]) -> Result<()> {
        let raws: Vec<Raw> = tensors.iter().map(|tensor| raw(tensor)).collect();
        let count = c_int::try_from(raws.len()).unwrap_or(0);
        // SAFETY: the tensors outlive the call, and C++ exceptions are caught.
        self.answered(no_grad(|| checked(unsafe { lorhai_group_sum(self.raw.as_ptr(), raws.as_ptr(), count) })))
    }

    /// Replaces a tensor on the CPU by that of process `from`.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn broadcast(&self, tensor: &Tensor, from: usize) -> Result<()> {
        let from = c_int::try_from(from).unwrap_or(-1);
        // SAFETY: as in `sum`.
        self.answered(no_grad(|| checked(unsafe { lorhai_group_broadcast(self.raw.as_ptr(), raw(tensor), from) })))
    }

    /// The text that process `from` has. `own` is this process's, which may be that one.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn text_of(&self, from: usize, own: &str) -> Result<String> {
        let length = Tensor::f_from_slice(&[own.len() as i64])?;
        self.broadcast(&length, from)?;
        let count = usize::try_from(length.f_int64_value(&[0])?).unwrap_or(0);
        if count == 0 {
            return Ok(String::new());
        }
        let bytes = if self.rank == from {
            Tensor::f_from_slice(own.as_bytes())?
        } else {
            Tensor::f_zeros([count as i64], (Dtype::Uint8, tch::Device::Cpu))?
        };
        self.broadcast(&bytes, from)?;
        Ok(String::from_utf8_lossy(&Vec::<u8>::try_from(&bytes)?).into_owned())
    }

    fn answered(&self, outcome: Result<()>) -> Result<()> {
        outcome.map_err(|error| {
            let message = error.message;
            if ["imed out", "Application timeout"].iter().any(|word| message.contains(word)) {
                let seconds = self.timeout.as_secs_f64();
                return Error::input(format!("another of the {} processes did not answer for {seconds} s", self.size));
            }
            let is_lost = ["closed by peer", "onnection reset", "roken pipe"].iter().any(|word| message.contains(word));
            if is_lost {
                return Error::input(format!("another of the {} processes ended before its work was done", self.size))
                    .with_hint(
                        "see what it wrote last, or what ended it; run all again to go on from the last checkpoint",
                    );
            }
            Error::new(error.kind, format!("the processes cannot reach each other: {message}"))
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by `lorhai_group`, and given up here.
        unsafe { lorhai_group_free(self.raw.as_ptr()) };
    }
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::input(format!("expected a name without a zero byte, found {text:?}")))
}

fn not_null(pointer: *mut c_void) -> Result<NonNull<c_void>> {
    NonNull::new(pointer).ok_or_else(|| Error::bug("libtorch gave nothing"))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// What each of `size` threads, as processes, makes of its group.
    fn in_each<T: Send + 'static>(size: usize, work: fn(Group) -> T) -> Vec<T> {
        let store = Store::serve("127.0.0.1", 0, TIMEOUT).unwrap();
        let port = store.port;
        let threads = (0..size).map(|rank| {
            std::thread::spawn(move || {
                let store = Store::connect("127.0.0.1", port, TIMEOUT).unwrap();
                let host = Some("127.0.0.1".to_owned());
                let membership = Membership { rank, size, prefix: "test".into(), host, timeout: TIMEOUT };
                work(Group::join(store, &membership).unwrap())
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    #[test]
    fn sums_are_the_same_to_the_last_bit() {
        let sums = in_each(3, |group| {
            let values: Vec<f32> = (0..70_001).map(|at| 1.0 / (at as f32 + 3.0 + group.rank as f32 * 0.7)).collect();
            let (many, few) = (Tensor::from_slice(&values), Tensor::from_slice(&[0.1_f64 * (1.0 + group.rank as f64)]));
            group.sum(&[&many, &few]).unwrap();
            (Vec::<f32>::try_from(&many).unwrap(), few.double_value(&[0]))
        });
        assert!(sums.iter().all(|sum| *sum == sums[0]));
        let expected: f64 = (0..3).map(|rank| 1.0 / (7.0 + 3.0 + f64::from(rank) * 0.7)).sum();
        assert!((f64::from(sums[0].0[7]) - expected).abs() < 1e-7 && (sums[0].1 - 0.6).abs() < 1e-12);
    }

    #[test]
    fn a_text_comes_from_the_process_that_has_it() {
        let texts = in_each(2, |group| {
            let own = format!("of {} ↯", group.rank);
            [group.text_of(1, &own).unwrap(), group.text_of(0, "").unwrap()]
        });
        assert!(texts.iter().all(|texts| *texts == ["of 1 ↯", ""]), "{texts:?}");
    }

    #[test]
    fn a_process_that_ends_ends_the_wait_of_the_others() {
        let errors = in_each(2, |group| {
            if group.rank == 1 {
                return String::new();
            }
            group.sum(&[&Tensor::from_slice(&[1.0_f32])]).unwrap_err().to_string()
        });
        assert!(errors[0].contains("another of the 2 processes ended before its work was done"), "{}", errors[0]);
    }
}
