//! Handles of keys and secrets; their bytes never come back.

use std::sync::Arc;

use peertap_dataplane::kdf::Secret;
use peertap_dataplane::{keys, vlan_keys};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use zeroize::Zeroizing;

use crate::arguments::{Int, aead, bytes, to_python};

/// An Ed25519 key that signs group frames; one per process and VLAN (SPEC 2.4).
#[pyclass(frozen, module = "peertap._core")]
pub struct FrameSigner(Arc<keys::FrameSigner>);

#[pymethods]
impl FrameSigner {
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        Ok(Self(Arc::new(keys::FrameSigner::generate().map_err(to_python)?)))
    }

    #[getter]
    fn public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.public())
    }
}

/// A frame key of ours with its counter (SPEC 3.3).
#[pyclass(frozen, module = "peertap._core")]
pub struct SendKey(pub Arc<keys::SendKey>);

#[pymethods]
impl SendKey {
    #[getter]
    fn kid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.kid())
    }

    #[getter]
    fn next_counter(&self) -> u64 {
        self.0.next_counter()
    }
}

/// A frame key of another member with its replay window (SPEC 2.5).
#[pyclass(frozen, module = "peertap._core")]
pub struct ReceiveKey(pub Arc<keys::ReceiveKey>);

#[pymethods]
impl ReceiveKey {
    #[getter]
    fn kid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.kid())
    }
}

/// A VLAN secret of static membership (SPEC 3.1).
#[pyclass(frozen, module = "peertap._core")]
pub struct StaticSecret(vlan_keys::StaticSecret);

#[pymethods]
impl StaticSecret {
    #[new]
    fn new(secret: &Bound<'_, PyAny>) -> PyResult<Self> {
        let copy = if let Ok(array) = secret.cast::<PyByteArray>() {
            Zeroizing::new(array.to_vec())
        } else if let Ok(bytes) = secret.cast::<PyBytes>() {
            Zeroizing::new(bytes.as_bytes().to_vec())
        } else {
            return Err(PyTypeError::new_err("secret must be bytes or bytearray"));
        };
        let secret = Secret::new(bytes("secret", &copy)?);
        vlan_keys::StaticSecret::new(secret).map(Self).map_err(to_python)
    }

    #[getter]
    fn creator_public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.creator().public())
    }

    #[getter]
    fn grant_public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.grantee().public())
    }

    #[getter]
    fn name_nonce<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.name_nonce())
    }

    fn sign_as_creator<'py>(&self, py: Python<'py>, message: &[u8]) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.creator().sign(message))
    }

    fn sign_as_grantee<'py>(&self, py: Python<'py>, message: &[u8]) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.grantee().sign(message))
    }

    fn keys(&self, vlan_id: &[u8]) -> PyResult<VlanKeys> {
        let keys = self.0.keys(bytes("vlan_id", vlan_id)?).map_err(to_python)?;
        Ok(VlanKeys(Arc::new(keys)))
    }
}

/// What two members agreed on in a Setup: each epoch's pair key comes from it and that epoch's root (SPEC 3.3).
#[pyclass(frozen, module = "peertap._core")]
pub struct PairSecret(vlan_keys::PairSecret);

#[pymethods]
impl PairSecret {
    #[new]
    fn new(secret: &[u8], info: &[u8], sealed_hash: &[u8], aead: Int<u8>) -> PyResult<Self> {
        let secret = Secret::new(bytes("secret", secret)?);
        let pair = vlan_keys::PairSecret::new(secret, info, bytes("sealed_hash", sealed_hash)?, self::aead(aead)?);
        pair.map(Self).map_err(to_python)
    }
}

/// The keys of one VLAN in one epoch (SPEC 3). The same interface whatever the membership is.
#[pyclass(frozen, module = "peertap._core")]
pub struct VlanKeys(pub Arc<vlan_keys::VlanKeys>);

#[pymethods]
impl VlanKeys {
    #[getter]
    fn vlan_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.names().vlan_id)
    }

    #[getter]
    fn mls_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.names().mls_id)
    }

    #[getter]
    fn route_public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.route().public())
    }

    /// By what members look for each other outside the VLAN (SPEC 12.1), 32 bytes.
    #[getter]
    fn circle<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.circle()[..])
    }

    fn sign_route<'py>(&self, py: Python<'py>, message: &[u8]) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.route().sign(message))
    }

    fn token<'py>(&self, py: Python<'py>, kind: Int<u8>, mac: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.token(kind.0, &bytes("mac", mac)?)))
    }

    /// Inner tag 16 || sid 16 || ciphertext (SPEC 2.1 with INTRO), nonce 00000000 || counter.
    fn hello_seal<'py>(
        &self,
        py: Python<'py>,
        sid: &[u8],
        counter: Int<u64>,
        token: &[u8],
        plaintext: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (sid, token) = (bytes("sid", sid)?, bytes("token", token)?);
        Ok(PyBytes::new(py, &self.0.hello_seal(&sid, counter.0, &token, plaintext)))
    }

    /// The plaintext of a sealed INTRO body as hello_seal gives it, or None.
    fn hello_open<'py>(
        &self,
        py: Python<'py>,
        nonce: &[u8],
        token: &[u8],
        sealed: &[u8],
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (nonce, token) = (bytes("nonce", nonce)?, bytes("token", token)?);
        Ok(self.0.hello_open_untrusted(&nonce, &token, sealed).map(|plain| PyBytes::new(py, &plain)))
    }

    fn group_sender(
        &self,
        member: &[u8],
        sid: &[u8],
        generation: Int<u32>,
        aead: Int<u8>,
        signer: &FrameSigner,
    ) -> PyResult<SendKey> {
        let aead = crate::arguments::aead(aead)?;
        let key = self.0.group_sender(member, sid, generation.0, aead, Arc::clone(&signer.0));
        Ok(SendKey(Arc::new(key.map_err(to_python)?)))
    }

    #[allow(clippy::too_many_arguments)] // as in the contract
    fn group_receiver(
        &self,
        member: &[u8],
        sid: &[u8],
        generation: Int<u32>,
        aead: Int<u8>,
        signer_public: &[u8],
        floor: Int<u64>,
    ) -> PyResult<ReceiveKey> {
        let aead = crate::arguments::aead(aead)?;
        let key = self.0.group_receiver(member, sid, generation.0, aead, signer_public, floor.0);
        Ok(ReceiveKey(Arc::new(key.map_err(to_python)?)))
    }

    fn pair_sender<'py>(&self, py: Python<'py>, pair: &PairSecret) -> PyResult<(SendKey, Bound<'py, PyBytes>)> {
        let (key, confirm) = self.0.pair_sender(&pair.0).map_err(to_python)?;
        Ok((SendKey(Arc::new(key)), PyBytes::new(py, &confirm)))
    }

    fn pair_receiver<'py>(&self, py: Python<'py>, pair: &PairSecret) -> PyResult<(ReceiveKey, Bound<'py, PyBytes>)> {
        let (key, confirm) = self.0.pair_receiver(&pair.0).map_err(to_python)?;
        Ok((ReceiveKey(Arc::new(key)), PyBytes::new(py, &confirm)))
    }
}

/// Key of one (trunk, direction, epoch, carrier) towards the neighbour (SPEC 2.1).
#[pyclass(frozen, module = "peertap._core")]
pub struct HopSendKey(pub Arc<keys::HopSendKey>);

#[pymethods]
impl HopSendKey {
    #[new]
    fn new(index: Int<u32>, key: &[u8], aead: Int<u8>) -> PyResult<Self> {
        let key = Zeroizing::new(bytes("key", key)?);
        Ok(Self(Arc::new(keys::HopSendKey::new(index.0, &key, self::aead(aead)?))))
    }

    #[getter]
    fn next_counter(&self) -> u64 {
        self.0.next_counter()
    }
}

/// Key of one (trunk, direction, epoch, carrier) from the neighbour (SPEC 2.1).
#[pyclass(frozen, module = "peertap._core")]
pub struct HopReceiveKey(pub Arc<keys::HopReceiveKey>);

#[pymethods]
impl HopReceiveKey {
    #[new]
    fn new(index: Int<u32>, key: &[u8], aead: Int<u8>) -> PyResult<Self> {
        let key = Zeroizing::new(bytes("key", key)?);
        Ok(Self(Arc::new(keys::HopReceiveKey::new(index.0, &key, self::aead(aead)?))))
    }

    #[getter]
    fn index(&self) -> u32 {
        self.0.index()
    }
}
