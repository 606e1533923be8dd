//! Python arguments to Rust values, and the one error map.

use peertap_dataplane::aead::Aead;
use peertap_dataplane::error::{Error, exactly};
use peertap_dataplane::udp::Address;
use pyo3::exceptions::{PyOSError, PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// ValueError for arguments, OSError from the system, RuntimeError after stop().
pub fn to_python(error: Error) -> PyErr {
    match error {
        Error::Argument(text) => PyValueError::new_err(text),
        Error::System(error) => match error.raw_os_error() {
            Some(code) => PyOSError::new_err((code, error.to_string())),
            None => PyOSError::new_err(error.to_string()),
        },
        Error::Stopped => PyRuntimeError::new_err(error.to_string()),
    }
}

/// An integer; out of range is a ValueError, not PyO3's OverflowError.
#[derive(Clone, Copy)]
pub struct Int<T>(pub T);

impl<'py, T: TryFrom<i64>> FromPyObject<'_, 'py> for Int<T> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let range = || PyValueError::new_err(format!("{} is out of range", &*object));
        let value = object
            .extract::<i64>()
            .map_err(|error| if error.is_instance_of::<PyOverflowError>(object.py()) { range() } else { error })?;
        T::try_from(value).map(Self).map_err(|_| range())
    }
}

/// Bytes of exactly N.
pub fn bytes<const N: usize>(name: &str, value: &[u8]) -> PyResult<[u8; N]> {
    exactly(name, value).map_err(to_python)
}

/// An AEAD by its wire number.
pub fn aead(id: Int<u8>) -> PyResult<Aead> {
    Aead::from_id(id.0).map_err(to_python)
}

/// An address as Python writes it.
pub type PyAddress = (String, Int<u16>);

/// An underlay address.
pub fn address(value: &PyAddress) -> PyResult<Address> {
    Address::parse(&value.0, value.1.0).map_err(to_python)
}
