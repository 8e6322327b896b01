"""A storage as the documentation asks for it: hashes in the names, and in what modules import."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


# WhiteNoise has no types.
class HashedFiles(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    support_js_module_import_aggregation = True
