//! `peertap._core`: the Python face of the data plane and of MLS groups. Arguments, an error map for each, and the GIL
//! released; no logic.

mod arguments;
mod engine;
mod keys;
mod mls;
mod tables;

use pyo3::prelude::*;

/// The Rust data plane: what Python may ask of it.
#[pymodule]
mod _core {
    #[pymodule_export]
    const AES_256_GCM: u8 = 1;
    #[pymodule_export]
    const CHACHA20_POLY1305: u8 = 2;
    #[pymodule_export]
    use super::engine::{Engine, has_aes, way_of_flow};
    #[pymodule_export]
    use super::keys::{
        FrameSigner, HopReceiveKey, HopSendKey, PairSecret, ReceiveKey, SendKey, StaticSecret, VlanKeys,
    };
    #[pymodule_export]
    use super::mls::{
        MlsChange, MlsError, MlsGroup, MlsLeaf, MlsMember, MlsProposal, MlsSigner, mls_credential_message,
        mls_group_info_position, mls_hpke_open, mls_hpke_seal, mls_key_package_owner, mls_message_epoch,
    };
    #[pymodule_export]
    use super::tables::{Class, Label, Member, Passage, Tables, Trunk, Vlan};
    use pyo3::prelude::*;
    use pyo3::types::{PyEllipsis, PyTuple};

    /// The stub's alias `Event = tuple[object, ...]`, so that it can be imported at run time too.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        let object = py.import("builtins")?.getattr("object")?;
        let event = py.get_type::<PyTuple>().as_any().get_item((object, PyEllipsis::get(py)))?;
        module.add("Event", event)
    }
}
