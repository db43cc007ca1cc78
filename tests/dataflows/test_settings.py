"""Settings: what is in force, where it came from, and how wrong ones are told."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows import plans
from dataflows.durations import duration_ms, duration_text
from dataflows.settings import DEFAULTS, SettingsError, load
from events.schema import TYPES, EventRules
from models.plan import Challenging, Learning, ModelPlan, Task, Valuing
from state.offers import OfferSpec
from state.plan import LanePlan
from state.times import DAY_MS, HOUR_MS


def loaded(*sets, path=None, env=None):
    return load(path, sets, env or {})


def wrong(*sets, path=None, env=None):
    """The lines that are said of wrong settings."""
    with pytest.raises(SettingsError) as caught:
        plans.check(loaded(*sets, path=path, env=env))
    return str(caught.value).splitlines()


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write


# what is in force


def test_the_shipped_file_is_right_and_says_what_the_code_defaults_to():
    settings = loaded()
    plans.check(settings)
    plan, default = plans.lane_plan(settings), LanePlan()
    declared = {"decayed", "panes", "segments", "families", "offers", "zone"}
    for name in set(LanePlan.__slots__) - declared:
        assert getattr(plan, name) == getattr(default, name), name
    assert plans.event_rules(settings) == EventRules()
    assert settings.events.types == TYPES
    models = plans.model_plan(settings)
    same = set(ModelPlan.__slots__) - {"tasks", "challenging", "clustering", "valuing"}
    for name in same:
        assert getattr(models, name) == getattr(ModelPlan(()), name), name
    assert {task.name: (task.horizon_ms // DAY_MS, task.absent) for task in models.tasks} == {
        "purchase_7d": (7, False),
        "purchase_30d": (30, False),
        "churn_30d": (30, True),
    }
    assert {task.learning for task in models.tasks} == {Learning()}
    assert models.challenging == Challenging(("tree", "forest"))
    assert models.clustering.inputs == models.tasks[0].inputs
    assert models.valuing == Valuing()


def test_every_setting_of_the_shipped_file_is_explained():
    """On its line or on the one before; what is declared by name explains itself."""
    before = section = ""
    for line in DEFAULTS.read_text().splitlines():
        section = line if line.startswith("[") else section
        if " = " in line and not section.startswith(
            (
                "[features",
                "[segments",
                "[families",
                "[offers.",
                "[models.tasks",
                "[recommend.weights",
            )
        ):
            assert "#" in line + before, line
        before = line


def test_secrets_are_in_no_file():
    tables = tomllib.loads(DEFAULTS.read_text())
    assert not {"bootstrap", "username", "password"} & set(tables["kafka"])
    assert "url" not in tables["redis"]


def test_a_file_beats_defaults_the_environment_a_file_and_set_everything(file):
    path = file('[kafka]\nbootstrap = "file:1"\ngroup = "mine"\n[rfm]\nbasis = "window"\n')
    assert loaded().kafka.bootstrap == ""
    assert loaded(path=path).kafka.bootstrap == "file:1"
    env = {"KAFKA_BOOTSTRAP": "env:1", "KAFKA_USERNAME": ""}
    assert loaded(path=path, env=env).kafka.bootstrap == "env:1"
    settings = loaded("kafka.bootstrap=set:1", "kafka.bootstrap=set:2", path=path, env=env)
    assert settings.kafka.bootstrap == "set:2"
    assert (settings.kafka.group, settings.kafka.dead) == ("mine", "events.dead")
    assert plans.lane_plan(settings).rfm.basis == "window"


def test_the_environment_may_name_the_file(file):
    env = {"AFTERGLOW_CONFIG": str(file('[session]\ngap = "1h"\n'))}
    assert loaded(env=env).session.gap == HOUR_MS
    other = file('[session]\ngap = "2h"\n')
    assert loaded(path=other, env=env).session.gap == 2 * HOUR_MS


def test_named_things_are_added_or_replaced_whole(file):
    path = file('[segments.vip]\nenter = "rfm.m == 5"\n[segments.keen]\nenter = "intent > 1"\n')
    segments = {spec.name: spec for spec in plans.lane_plan(loaded(path=path)).segments}
    assert (segments["vip"].exit, segments["vip"].min_dwell_ms) == (None, 0)
    assert segments["keen"].enter == "intent > 1"
    assert segments["lapsing"].enter == "lifetime.orders >= 2 and age(last_order) >= 45d"


def test_an_offer_is_changed_switched_off_or_added(file):
    path = file(
        """
        [offers]
        vip_discount.enabled = false
        welcome_back.priority = 3
        [offers.thanks]
        when = "lifetime.orders == 1"
        for = "1d"
        value = "TEN"
        """
    )
    back, thanks = plans.lane_plan(loaded(path=path)).offers
    assert back == OfferSpec(
        "welcome_back",
        "within(returned_at, 7d)",
        7 * DAY_MS,
        priority=3,
        cap=1,
        cap_window_ms=90 * DAY_MS,
        value={"percent": 10},
    )
    assert thanks == OfferSpec("thanks", "lifetime.orders == 1", DAY_MS, value="TEN")


def test_set_takes_toml_values_and_bare_words():
    settings = loaded(
        "rfm.ties=same",
        "lane.timer_budget=100",
        'models.tasks.purchase_7d.inputs=["intent"]',
        "models.tasks.churn_30d.enabled=false",
        "models.tasks.visit_1d={horizon = '1d', outcome = ['page_view']}",
        "segments.keen.enter=intent >= 3 and within(returned_at, 7d)",
        "segments.keen.min_dwell = 2h",
        'families.size.labels={big = "lifetime.orders > 9", small = "lifetime.orders > 0"}',
    )
    plan = plans.lane_plan(settings)
    assert (plan.rfm.ties, plan.timer_budget) == ("same", 100)
    first, second, third = plans.model_plan(settings).tasks
    assert first.inputs == ("intent",)
    assert second.name == "purchase_30d"
    assert third == Task(
        "visit_1d", second.inputs, DAY_MS, (TYPES.index("page_view"),), learning=Learning()
    )
    keen = plan.segments[-1]
    assert keen.enter == "intent >= 3 and within(returned_at, 7d)"
    assert keen.min_dwell_ms == 2 * HOUR_MS
    assert [label for label, _ in plan.families[-1].members] == ["big", "small"]


@pytest.mark.parametrize("key", ["security.protocol", '"security.protocol"'])
def test_options_of_the_client_may_have_dots(key, file):
    from_set = loaded(f"kafka.options.{key}=SSL", "kafka.bootstrap=b:1")
    from_file = loaded("kafka.bootstrap=b:1", path=file(f'[kafka.options]\n{key} = "SSL"\n'))
    for settings in (from_set, from_file):
        assert plans.kafka_config(settings) == {
            "bootstrap.servers": "b:1",
            "security.protocol": "SSL",
        }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("kafka.dead=events", "kafka.dead: must be another topic than kafka.events, but 'events'"),
        ("kafka.catalog=memberships", "kafka.catalog: must be another topic than kafka.members"),
        ("kafka.events=", "kafka.events: must be the name of a topic"),
        ("kafka.changes=a b", "kafka.changes: must be the name of a topic, .* but 'a b' came"),
        ("kafka.positions=..", "kafka.positions: must be the name of a topic"),
        ("kafka.memberships=" + "x" * 250, "kafka.memberships: must be the name of a topic"),
    ],
)
def test_topics_are_names_and_no_two_are_one(wrong, said):
    with pytest.raises(SettingsError, match=said):
        plans.check(loaded(wrong))
    plans.check(loaded("kafka.catalog="))


def test_a_rule_that_never_holds_is_refused():
    times = 'valid_from="2026-12-01T00:00:00Z"', 'valid_to="2026-11-30T00:00:00Z"'
    rule = f'{{exclude="stale", {times[0]}, {times[1]}}}'
    with pytest.raises(SettingsError, match=r"rules\.early\.valid_to: must be later"):
        plans.item_rules(loaded(f"recommend.rules.early={rule}").recommend.rules)


def test_no_type_of_event_at_all_is_refused():
    with pytest.raises(SettingsError, match=r"events\.types: "):
        loaded("events.types=[]")


def test_a_mark_that_windows_puts_before_a_text_is_no_part_of_it(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('[rfm]\r\nbasis = "window"\r\n', encoding="utf-8-sig")
    assert load(file, env={}).rfm.basis == "window"


@pytest.mark.parametrize("options", [{}, {"security.protocol": "ssl"}])
def test_a_user_of_the_broker_must_log_in(options):
    sets = [f'kafka.options."{name}"={value}' for name, value in options.items()]
    settings = loaded(*sets, env={"KAFKA_USERNAME": "me", "KAFKA_PASSWORD": "s3cret"})
    came = options.get("security.protocol", "plaintext")
    with pytest.raises(
        SettingsError, match=rf"kafka\.options\.security\.protocol: must be SASL.*'{came}' came"
    ):
        plans.check_kafka(settings)
    well = {"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN"}
    sets = [f'kafka.options."{name}"={value}' for name, value in well.items()]
    plans.check_kafka(loaded(*sets, env={"KAFKA_USERNAME": "me", "KAFKA_PASSWORD": "s3cret"}))


def test_a_password_is_given_to_clients_and_shown_to_nobody():
    settings = loaded(env={"KAFKA_USERNAME": "me", "KAFKA_PASSWORD": "s3cret"})
    assert plans.kafka_config(settings)["sasl.password"] == "s3cret"
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.model_dump())


def test_users_are_remembered_for_ever_unless_it_is_said_how_long():
    for text in ("", "never", "0", "retention.every=5m"):
        sets = [text if "=" in text else f"retention.after={text}"]
        assert plans.lane_plan(loaded(*sets)).retention_ms == 0
    chosen = plans.lane_plan(loaded("retention.after=400d", "retention.at_once=5"))
    assert (chosen.retention_ms, chosen.retention_rows) == (400 * 24 * HOUR_MS, 5)
    assert chosen.retention_every_ms == HOUR_MS // 60
    longest = "retention.after: must be longer than features.views_400d.window"
    feature = "features.views_400d={kind='count', window='400d', panes=4, types=[]}"
    assert wrong("retention.after=400d", feature)[0].startswith(longest)


def test_fixed_cuts_and_switched_off_models():
    cuts = "{recency_days = [7, 30, 60, 120], frequency = [1, 2, 3, 5], monetary = [1, 2, 3, 4]}"
    settings = loaded(f"rfm.cuts={cuts}", "models.enabled=false", "orders.keep=10d")
    plan = plans.lane_plan(settings)
    assert plan.rfm.fixed.version == 1
    assert plan.rfm.fixed.recency_days == (7, 30, 60, 120)
    assert plan.order_keep_ms == 10 * DAY_MS
    assert plans.model_plan(settings) is None
    assert plans.learner(settings, trains=True) is None


# what is wrong


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rfm.bsis=window", "rfm.bsis: there is no such setting; did you mean 'basis'?"),
        ("kafka.boostrap=x", "kafka.boostrap: there is no such setting; did you mean 'bootstrap'?"),
        ("sesion.gap=1h", "sesion: there is no such setting; did you mean 'session'?"),
        ("zzz.x=1", "zzz: there is no such setting"),
        (
            "segments.vip.cooldwn=1h",
            "segments.vip.cooldwn: there is no such setting; did you mean 'cooldown'?",
        ),
        (
            "features.intent.halflife=1h",
            "features.intent.halflife: there is no such setting; did you mean 'half_life'?",
        ),
        (
            "rfm.basis=weekly",
            "rfm.basis: input should be 'decayed', 'window' or 'lifetime', but 'weekly' came",
        ),
        (
            "session.gap=soon",
            'session.gap: must be a duration such as "250ms", "30s", "5m", "1h30m" or "7d", '
            "but 'soon' came",
        ),
        (
            "session.gap=0s",
            "session.gap: input should be greater than or equal to 1, but '0s' came",
        ),
        (
            "dedup.window=999999999w",
            "dedup.window: must be a duration of at most 100 years, but '999999999w' came",
        ),
        (
            "lane.commit_events=true",
            "lane.commit_events: input should be a valid integer, but True came",
        ),
        (
            "features.intent.kind=sum",
            "features.intent.kind: must be decayed or count, but 'sum' came",
        ),
        ("features.new={}", "features.new.kind: is needed: decayed or count, but is not there"),
        ("segments.keen.version=2", "segments.keen.enter: is needed, but is not there"),
        ("kafka=5", "kafka: must be a table of settings, but 5 came"),
        (
            "kafka.password=12345",
            "kafka.password: input should be a valid string, but int (hidden) came",
        ),
        (
            "redis.url=http://me:s3cret@host",
            "redis.url: must begin with redis://, rediss://, unix://, but str (hidden) came",
        ),
        (
            'kafka.options={x=[1], "sasl.password"="s3cret"}',
            "kafka.options: x must be a text, a number or true or false, but dict (hidden) came",
        ),
        (
            "features.views_7d.panes=11",
            "features.views_7d.panes: must divide the window of 604800000 ms evenly, but 11 came",
        ),
        (
            "features.rfm={kind='count', window='1d', panes=1, types=[]}",
            "features.rfm: the profile has 'rfm' already; rename it",
        ),
        (
            "rfm.cuts={recency_days=[7,3,60,120],frequency=[1,2,3,5],monetary=[1,2,3,4]}",
            "rfm.cuts.recency_days: must be four numbers, each larger than the one before, "
            "but [7, 3, 60, 120] came",
        ),
        (
            "offers.vip_discount.when=true",
            "offers.vip_discount.when: input should be a valid string, but True came",
        ),
        (
            "serve.address=8091",
            "serve.address: must be host:port, such as 127.0.0.1:8080, but 8091 came",
        ),
        (
            "serve.address=localhost",
            "serve.address: must be host:port, such as 127.0.0.1:8080, but 'localhost' came",
        ),
        (
            "metrics.address=9109",
            "metrics.address: must be host:port, such as 127.0.0.1:9109, or empty for none, "
            "but 9109 came",
        ),
        ("offers.x={when='true'}", "offers.x.for: is needed, but is not there"),
        (
            "offers.vip_discount.fr=1d",
            "offers.vip_discount.fr: there is no such setting; did you mean 'for'?",
        ),
        (
            "offers.vip_discount.value=[1]",
            "offers.vip_discount.value: must be a text, a number, true or false, or a table of "
            "these, but [1] came",
        ),
        (
            "offers.vip_discount.value={a=inf}",
            "offers.vip_discount.value: must have finite numbers below 2^63, but {'a': inf} came",
        ),
        (
            "offers.Vip={when='true', for='1d'}",
            "offers.Vip: string should match pattern '^[a-z][a-z0-9_]{0,62}$', but 'Vip' came",
        ),
        (
            "offers.vip_discount.cap_window=3d",
            "offers.vip_discount.cap_window: needs a cap to count over it, such as cap = 1, but "
            "there is none",
        ),
        (
            "session.gap=30",
            'session.gap: must be a duration with its unit, such as "30m", but 30 came',
        ),
        ("rfm.basis", "--set rfm.basis: must be path=value, such as rfm.basis=window"),
        ("rfm.basis.x=1", "--set rfm.basis.x=1: 'basis' is a value and has no settings in it"),
        (
            "a b=1",
            "--set a b=1: must be path=value, such as rfm.basis=window, but the path is 'a b'",
        ),
    ],
)
def test_one_wrong_setting_is_one_readable_line(text, line):
    assert wrong(text, env={"KAFKA_BOOTSTRAP": "b:1"}) == [line]


def test_every_wrong_setting_is_told_at_once():
    lines = wrong("session.gap=soon", "rfm.half_life=1ms", "nope=1")
    assert [line.partition(":")[0] for line in lines] == ["rfm.half_life", "session.gap", "nope"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("segments.vip.enter=intnt > 1", "segments: segment 'vip', enter: there is no feature"),
        ("segments.vip.enter=intent >", "segments: segment 'vip', enter: a value must stand here"),
        ("families.rfm.labels.odd=rfm.r >", "segments: family 'rfm', segment 'odd': a value must"),
        ("offers.vip_discount.when=intnt > 1", "offers.vip_discount.when: there is no feature"),
        ("features.intent.where=amout > 1", "features.intent.where: there is no feature 'amout'"),
        ("features.intent.weights={buy=1}", "features.intent.weights: must be types of event"),
        ('features.views_7d.types=["buy"]', "features.views_7d.types: must be types of event"),
        ('events.types=["buy"]', "events.types: must be types of event"),
        ('models.inputs=["x"]', "models.inputs: there is no feature 'x'"),
        ('models.inputs=["session.device"]', "models.inputs: session.device is a text"),
        (
            "models.tasks.churn_30d.inputs=['age(x)']",
            "models.tasks.churn_30d.inputs: there is no feature 'x'",
        ),
        ('models.at=["buy"]', "models.at: must be types of event"),
        ("models.tasks.alive={horizon = '7d'}", "models.tasks.alive: the profile has this score"),
        ("models.every=8d", "models.tasks.purchase_7d.horizon: must be at least models.every"),
        ('models.tasks.churn_30d.outcome=["buy"]', "models.tasks.churn_30d.outcome: must be"),
        (
            "retention.after=90d",
            "retention.after: must be longer than rfm.window (90 d), which needs its user for so "
            "long, but 90 d came; make it longer, or that one shorter, or",
        ),
        ("retention.after=1h", "retention.after: must be longer than rfm.window (90 d)"),
        (
            "recommend.segment=rmf",
            "recommend.segment: must be one of the families (rfm), or empty to tell nobody apart, "
            "but 'rmf' came",
        ),
    ],
)
def test_what_settings_declare_is_compiled_at_the_start(text, start):
    assert wrong(text)[0].startswith(start)


def test_files_that_cannot_be_read_are_named(tmp_path, file):
    assert wrong(path=tmp_path / "none.toml") == [
        f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"
    ]
    path = file("a = \n")
    assert wrong(path=path)[0].startswith(f"{path}: is not TOML: Invalid value (at line 1")


def test_what_is_wrong_in_a_file_or_the_environment_is_said_with_its_source(file):
    path = file('[rfm]\nbasis = "weekly"\n')
    lines = wrong("session.gap=soon", path=path, env={"REDIS_URL": "localhost"})
    assert {line.split(": ")[0] for line in lines} == {
        f"rfm.basis ({path})",
        "session.gap",
        "redis.url (REDIS_URL)",
    }


def test_a_long_value_is_cut_short():
    (line,) = wrong("rfm.basis=" + "x" * 1000)
    assert len(line) < 200


# durations


@given(
    st.lists(
        st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h", "d", "w"])), min_size=1
    )
)
def test_a_duration_is_the_sum_of_its_parts(parts):
    unit_ms = {"ms": 1, "s": 10**3, "m": 60 * 10**3, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert duration_ms(text) == sum(number * unit_ms[unit] for number, unit in parts)


@pytest.mark.parametrize("text", ["", "5", "1.5h", "-1s", "1h 30m", "1y", "h", "٣s", "1H"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="must be a duration such as"):
        duration_ms(text)


def test_durations_are_shown_by_their_two_largest_units():
    assert [duration_text(ms) for ms in (0, 999, 61_000, 90 * DAY_MS)] == [
        "0 ms",
        "999 ms",
        "1 min 1 s",
        "90 d",
    ]
