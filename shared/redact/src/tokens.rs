//! Keys and tokens of known providers, by the forms that their own public documentation gives them. A table: must never
//! hold a rule that needs more than a beginning, the bytes after it, and how many.

use crate::look::{ALNUM, BASE64_URL, Class, HEX};

static UPPER: Class = Class::of(b"A-Z0-9");
static LOWER_HEX: Class = Class::of(b"0-9a-f");
static LOWER: Class = Class::of(b"a-z0-9");
static LETTERS: Class = Class::of(b"A-Za-z");
static WORDS: Class = Class::of(b"A-Za-z0-9_");
static DASHED: Class = Class::of(b"A-Za-z0-9-");
static DOTTED: Class = Class::of(b"A-Za-z0-9._-");
static PADDED: Class = Class::of(b"A-Za-z0-9+/=_-");
static DOLLARS: Class = Class::of(b"A-Za-z0-9$_.-");
static PATH: Class = Class::of(b"A-Za-z0-9/_-");
static BECH32: Class = Class::of(b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L");
static COLONS: Class = Class::of(b"A-Za-z0-9:_-");

/// A token that is known by its beginning.
pub(crate) struct Token {
    /// What a finding is called.
    pub name: &'static str,
    /// To the letter.
    pub prefix: &'static str,
    /// What follows it.
    pub body: &'static Class,
    /// Least bytes that follow.
    pub least: usize,
    /// Most bytes that follow; beyond it the whole is something else. 0: as many as there are.
    pub most: usize,
    /// What else must hold.
    pub check: Check,
}

/// What must hold of a token besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing.
    None,
    /// Words joined by dashes may begin alike: it has digits, and a part that no word is.
    Mixed,
    /// It ends with a part of 16 or more, and a checksum of 8 hexadecimal digits.
    Ours,
}

const fn token(name: &'static str, prefix: &'static str, body: &'static Class, least: usize) -> Token {
    Token { name, prefix, body, least, most: 0, check: Check::None }
}

/// Of one length; a longer run of the same bytes is none.
const fn exact(name: &'static str, prefix: &'static str, body: &'static Class, length: usize) -> Token {
    Token { name, prefix, body, least: length, most: length, check: Check::None }
}

const fn common(name: &'static str, prefix: &'static str, body: &'static Class, least: usize) -> Token {
    Token { name, prefix, body, least, most: 0, check: Check::Mixed }
}

/// Each provider's own documentation is the source: of the names in the first column, "API keys", "access tokens" or
/// "authentication" there.
pub(crate) static TOKENS: &[Token] = &[
    // toolcrib's own keys, services/permissions: environment, agent, secret, checksum.
    Token { check: Check::Ours, ..token("toolcrib_key", "tc_", &BASE64_URL, 28) },
    // AWS IAM, "Unique identifiers": access keys, temporary ones, bearer tokens of services, context ones.
    exact("aws_access_key_id", "AKIA", &UPPER, 16),
    exact("aws_access_key_id", "ASIA", &UPPER, 16),
    exact("aws_access_key_id", "ABIA", &UPPER, 16),
    exact("aws_access_key_id", "ACCA", &UPPER, 16),
    token("aws_bedrock_key", "ABSK", &PADDED, 100),
    token("gcp_api_key", "AIza", &BASE64_URL, 35),
    token("gcp_oauth_token", "ya29.", &DOTTED, 20),
    token("gcp_oauth_secret", "GOCSPX-", &BASE64_URL, 24),
    token("gcp_refresh_token", "1//0", &BASE64_URL, 30),
    // GitHub, "About authentication to GitHub": token formats.
    token("github_token", "ghp_", &ALNUM, 30),
    token("github_token", "gho_", &ALNUM, 30),
    token("github_token", "ghu_", &ALNUM, 30),
    token("github_token", "ghs_", &ALNUM, 30),
    token("github_token", "ghr_", &ALNUM, 30),
    token("github_token", "github_pat_", &WORDS, 30),
    // GitLab, "Token overview": prefixes.
    token("gitlab_token", "glpat-", &DOTTED, 20),
    token("gitlab_token", "gldt-", &BASE64_URL, 20),
    token("gitlab_token", "glrt-", &DOTTED, 20),
    token("gitlab_token", "glrtr-", &DOTTED, 20),
    token("gitlab_token", "glcbt-", &BASE64_URL, 20),
    token("gitlab_token", "glptt-", &BASE64_URL, 20),
    token("gitlab_token", "glft-", &BASE64_URL, 20),
    token("gitlab_token", "glimt-", &BASE64_URL, 20),
    token("gitlab_token", "glagent-", &BASE64_URL, 20),
    token("gitlab_token", "gloas-", &BASE64_URL, 20),
    token("gitlab_token", "glsoat-", &BASE64_URL, 20),
    token("gitlab_token", "GR1348941", &BASE64_URL, 20),
    // Slack, "Token types" and "Incoming webhooks".
    common("slack_token", "xoxb-", &DASHED, 10),
    common("slack_token", "xoxp-", &DASHED, 10),
    common("slack_token", "xoxa-", &DASHED, 10),
    common("slack_token", "xoxr-", &DASHED, 10),
    common("slack_token", "xoxs-", &DASHED, 10),
    common("slack_token", "xoxc-", &DASHED, 10),
    common("slack_token", "xoxd-", &PADDED, 10),
    common("slack_token", "xoxe-", &DASHED, 10),
    common("slack_token", "xoxe.", &DOTTED, 20),
    common("slack_token", "xapp-", &DASHED, 20),
    token("slack_webhook", "hooks.slack.com/services/", &PATH, 30),
    token("slack_webhook", "hooks.slack.com/workflows/", &PATH, 30),
    token("slack_webhook", "hooks.slack.com/triggers/", &PATH, 30),
    // Stripe, "API keys"; those that begin with pk are public.
    token("stripe_key", "sk_live_", &ALNUM, 16),
    token("stripe_key", "sk_test_", &ALNUM, 16),
    token("stripe_key", "rk_live_", &ALNUM, 16),
    token("stripe_key", "rk_test_", &ALNUM, 16),
    token("stripe_key", "whsec_", &PADDED, 24),
    token("openai_key", "sk-proj-", &BASE64_URL, 20),
    token("openai_key", "sk-svcacct-", &BASE64_URL, 20),
    token("openai_key", "sk-admin-", &BASE64_URL, 20),
    token("openrouter_key", "sk-or-v1-", &HEX, 32),
    token("anthropic_key", "sk-ant-", &BASE64_URL, 20),
    common("openai_key", "sk-", &BASE64_URL, 20),
    token("npm_token", "npm_", &ALNUM, 30),
    token("pypi_token", "pypi-AgE", &BASE64_URL, 40),
    exact("twilio_key", "SK", &LOWER_HEX, 32),
    token("sendgrid_key", "SG.", &DOTTED, 50),
    token("discord_webhook", "discord.com/api/webhooks/", &PATH, 60),
    token("discord_webhook", "discordapp.com/api/webhooks/", &PATH, 60),
    exact("huggingface_token", "hf_", &ALNUM, 34),
    token("huggingface_token", "api_org_", &LETTERS, 34),
    token("digitalocean_token", "dop_v1_", &HEX, 64),
    token("digitalocean_token", "doo_v1_", &HEX, 64),
    token("digitalocean_token", "dor_v1_", &HEX, 64),
    token("shopify_token", "shpat_", &HEX, 32),
    token("shopify_token", "shpca_", &HEX, 32),
    token("shopify_token", "shppa_", &HEX, 32),
    token("shopify_token", "shpss_", &HEX, 32),
    token("mailgun_key", "key-", &LOWER_HEX, 32),
    token("databricks_token", "dapi", &LOWER_HEX, 32),
    token("vault_token", "hvs.", &BASE64_URL, 24),
    token("vault_token", "hvb.", &BASE64_URL, 24),
    token("vault_token", "hvr.", &BASE64_URL, 24),
    token("doppler_token", "dp.pt.", &ALNUM, 40),
    token("doppler_token", "dp.st.", &DOTTED, 40),
    token("doppler_token", "dp.ct.", &ALNUM, 40),
    token("doppler_token", "dp.sa.", &ALNUM, 40),
    token("doppler_token", "dp.scim.", &ALNUM, 40),
    token("doppler_token", "dp.audit.", &ALNUM, 40),
    token("linear_key", "lin_api_", &ALNUM, 40),
    token("linear_key", "lin_oauth_", &ALNUM, 40),
    token("notion_token", "ntn_", &ALNUM, 40),
    exact("notion_token", "secret_", &ALNUM, 43),
    // More providers, each by "API tokens" of its documentation.
    token("onepassword_token", "ops_eyJ", &PADDED, 60),
    token("adobe_secret", "p8e-", &LOWER, 32),
    token("age_key", "AGE-SECRET-KEY-1", &BECH32, 58),
    exact("alibaba_key", "LTAI", &ALNUM, 20),
    token("artifactory_key", "AKCp", &ALNUM, 60),
    token("atlassian_token", "ATATT3", &PADDED, 60),
    token("atlassian_token", "ATCTT3", &PADDED, 60),
    token("bitbucket_password", "ATBB", &ALNUM, 32),
    token("buildkite_token", "bkua_", &LOWER_HEX, 40),
    token("circleci_token", "CCIPAT_", &WORDS, 40),
    token("clojars_token", "CLOJARS_", &LOWER, 60),
    token("contentful_token", "CFPAT-", &BASE64_URL, 40),
    exact("crates_io_token", "cio", &ALNUM, 32),
    token("docker_token", "dckr_pat_", &BASE64_URL, 24),
    token("docker_token", "dckr_oat_", &BASE64_URL, 24),
    token("dynatrace_token", "dt0c01.", &DOTTED, 80),
    token("dynatrace_token", "dt0s16.", &DOTTED, 80),
    token("easypost_key", "EZAK", &ALNUM, 54),
    token("easypost_key", "EZTK", &ALNUM, 54),
    token("figma_token", "figd_", &BASE64_URL, 38),
    token("flutterwave_key", "FLWSECK-", &DASHED, 32),
    token("flutterwave_key", "FLWSECK_TEST-", &DASHED, 32),
    token("fly_token", "fo1_", &BASE64_URL, 40),
    token("fly_token", "fm2_", &PADDED, 100),
    token("fly_token", "fm1r_", &PADDED, 100),
    token("grafana_token", "glsa_", &WORDS, 41),
    token("grafana_token", "glc_eyJ", &PADDED, 32),
    token("groq_key", "gsk_", &ALNUM, 50),
    token("heroku_key", "HRKU-AA", &BASE64_URL, 50),
    token("mapbox_token", "sk.eyJ", &DOTTED, 60),
    token("newrelic_key", "NRAK-", &UPPER, 27),
    token("newrelic_key", "NRIQ-", &BASE64_URL, 32),
    token("netlify_token", "nfp_", &ALNUM, 36),
    exact("nuget_key", "oy2", &LOWER, 43),
    token("paypal_token", "access_token$production$", &DOLLARS, 40),
    token("paypal_token", "access_token$sandbox$", &DOLLARS, 40),
    token("perplexity_key", "pplx-", &ALNUM, 40),
    token("planetscale_token", "pscale_tkn_", &DOTTED, 32),
    token("planetscale_token", "pscale_pw_", &DOTTED, 32),
    token("planetscale_token", "pscale_oauth_", &DOTTED, 32),
    token("postman_key", "PMAK-", &DASHED, 59),
    token("posthog_key", "phx_", &ALNUM, 40),
    token("prefect_key", "pnu_", &ALNUM, 36),
    token("pulumi_token", "pul-", &LOWER_HEX, 40),
    token("readme_key", "rdme_", &LOWER, 70),
    token("replicate_token", "r8_", &ALNUM, 37),
    common("resend_key", "re_", &WORDS, 32),
    token("rubygems_key", "rubygems_", &LOWER_HEX, 48),
    token("scalingo_token", "tk-us-", &BASE64_URL, 48),
    token("sendinblue_key", "xkeysib-", &DASHED, 64),
    token("sentry_token", "sntrys_", &PADDED, 60),
    token("sentry_token", "sntryu_", &LOWER_HEX, 64),
    token("shippo_token", "shippo_live_", &LOWER_HEX, 40),
    token("shippo_token", "shippo_test_", &LOWER_HEX, 40),
    token("square_token", "sq0atp-", &BASE64_URL, 22),
    token("square_token", "sq0csp-", &BASE64_URL, 40),
    token("square_token", "EAAA", &BASE64_URL, 60),
    token("supabase_key", "sbp_", &LOWER_HEX, 40),
    token("supabase_key", "sb_secret_", &BASE64_URL, 30),
    common("tailscale_key", "tskey-", &DASHED, 20),
    token("typeform_token", "tfp_", &DOTTED, 40),
    token("xai_key", "xai-", &ALNUM, 70),
    token("yandex_key", "AQVN", &BASE64_URL, 35),
    token("facebook_token", "EAACEdEose0cBA", &ALNUM, 20),
    token("facebook_token", "EAAG", &ALNUM, 80),
    common("plaid_token", "access-sandbox-", &DASHED, 36),
    common("plaid_token", "access-production-", &DASHED, 36),
    token("telegram_webhook", "api.telegram.org/bot", &COLONS, 40),
];
