"""What Metaflow finds here: `@spend_cap`, and the type "vault-key" of `@secrets`.

Metaflow loads the plugins with every flow on this machine. They therefore import `keybrake` when they are used, and
not before: a flow that uses neither runs where only Metaflow is installed.
"""

STEP_DECORATORS_DESC = [("spend_cap", ".spend_cap.SpendCapDecorator")]
SECRETS_PROVIDERS_DESC = [("vault-key", ".vault_key_provider.VaultKeyProvider")]
