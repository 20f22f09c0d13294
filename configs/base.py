"""Every field of a run, typed and commented. Nothing else has defaults; variants change these.

`python -m emojax.train --config=configs/tiny.py --config.optim.lr=3e-4` sets any of them.
The sizes below are Emotion-LLaMAv2 in full (emotion_llama_v2 1.2-1.7).
"""

from ml_collections import ConfigDict, config_dict

OPTIM = ("lr", "min_lr", "warmup_lr", "warmup", "b1", "b2", "eps", "weight_decay", "clip", "ema")


def get_config() -> ConfigDict:
    """The full-size v2 model with the released training recipe."""
    c = ConfigDict()
    c.name = "v2"
    c.seed = 42

    c.model = ConfigDict()
    c.model.version = "v2"  # v2: Emotion-LLaMAv2; v1: Emotion-LLaMA
    c.model.compute_dtype = (
        "bfloat16"  # activations and matmuls; norms, softmax and loss are float32
    )
    c.model.param_dtype = "bfloat16"  # frozen weights at rest; trainable ones are always float32
    c.model.kernels = (
        "float"  # float (param_dtype) | int8: frozen kernels of blocks and head, a scale a channel
    )
    c.model.cache = "float"  # float (compute_dtype) | int8: keys and values while answering, a scale a token and head
    # What a layer of the language model keeps for its backward pass (emojax/model/layers.py:REMAT): none | full | qkv | qkv_gate |
    # most | dots; from `most` to `full` memory falls and recomputation grows.
    c.model.remat = "most"
    c.model.remat_long = "full"  # the same for rows longer than long_row tokens
    c.model.long_row = 768
    c.model.unroll = 1  # layers of a scan laid out: 1 on accelerators, the depth on CPU
    c.model.missing = (
        "released"  # released: constant tokens of absent streams stay visible; masked: hidden
    )
    c.model.audio_span = (
        "window"  # window: the padded 30 s (released); real: the sound's own length
    )
    c.model.stem = "random"  # random | cosine: how the patch kernels start without imported weights
    c.model.word_heads = (
        False  # towers also predict the words of their descriptions: for training from scratch
    )
    c.model.detach_towers = (
        False  # with word heads: the language model's gradient ends at the features
    )
    c.model.num_frames = 16
    c.model.video_pool = 2  # patches of a frame are averaged to 2 x 2
    c.model.image = _tower(size=448, patch=14, width=1408, depth=39, heads=16, mlp=6144)
    c.model.video = _tower(size=224, patch=14, width=1408, depth=40, heads=16, mlp=6144)
    c.model.audio = ConfigDict(
        {"mels": 128, "seconds": 30.0, "width": 1280, "depth": 32, "heads": 20, "mlp": 5120}
    )
    c.model.audio.dropout = 0.0
    # v1 alone: MAE and VideoMAE on the frames, HuBERT on the waveform (window in seconds) in place of Whisper
    c.model.face = _tower(size=224, patch=16, width=1024, depth=24, heads=16, mlp=4096)
    c.model.face.pool = "cls"  # cls | mean: the MAE's vector of a frame, after its final norm
    c.model.motion = _tower(size=224, patch=16, width=1024, depth=24, heads=16, mlp=4096)
    c.model.hubert = ConfigDict(
        {"seconds": 30.0, "width": 1024, "depth": 24, "heads": 16, "mlp": 4096}
    )
    c.model.hubert.update(
        {"dropout": 0.0, "conv_width": 512, "position_kernel": 128, "position_groups": 16}
    )
    c.model.fusion = ConfigDict(
        {"kind": "conv_attention", "hidden": 512, "width": 128, "out": 256, "blocks": 4}
    )
    c.model.fusion.dropout = 0.1
    c.model.llama = ConfigDict(
        {"vocab": 32000, "width": 4096, "depth": 32, "heads": 32, "mlp": 11008}
    )
    c.model.llama.dropout = 0.0
    c.model.lora = ConfigDict({"rank": 64, "alpha": 16.0, "dropout": 0.05, "targets": ("q", "v")})

    c.data = ConfigDict()
    c.data.image_choice = "peak"  # first | middle | peak | index
    c.data.temporal = "window"  # window: 16 consecutive frames (released); uniform: the whole clip
    # (row length, answer length) that are compiled; a batch takes the smallest that holds it
    c.data.buckets = ((640, 32), (768, 128), (1024, 384), (2048, 1024))
    c.data.layout = "train"  # how evaluation asks: train | released_eval | released_demo (data_pipeline/loader/prompts.py)
    # Own wordings by task, {labels} filled in, first one at evaluation; empty: those of data_pipeline/loader/prompts.py.
    c.data.questions = ConfigDict()
    c.data.max_answer = 1024  # tokens, end token included
    c.data.max_subtitle = 1024  # tokens; longer subtitles are cut there
    c.data.no_subtitle = ""  # stands in the prompt where no words are known; "" as released
    c.data.augment = (
        0.0  # strength of seeded changes of pictures and sound while training; 0 for parity
    )
    c.data.eval_views = (
        1  # above 1: label probabilities are a mean over the clip and changed copies of it
    )
    # Share of training rows in which the sound of a named speaker is moved to that of the average one; see
    # data_pipeline/media/speaker_norm.py. Below 1 clips of unknown people are learned from too, at the cost of the others.
    c.data.speaker_norm = 0.0
    c.data.words = 16  # distinct words of a description that word heads learn
    c.data.prefetch = 4  # batches made ahead
    c.data.threads = 2  # reading threads
    c.data.workers = 0  # processes that make batches; 0: the reading threads alone
    # Draws of data sets in a mixture, "name=weight,..."; others have those of the released stage, or their number of clips.
    c.data.weights = ""
    c.data.window = 1  # steps whose rows are sorted by length, of built data; 1: rows come as they are drawn (released)
    c.data.draw = (
        "batch"  # batch: one data set a step on all processes (released); sample: one a row
    )

    # Stages run in this order; each inherits the weights of the one before, not its optimizer.
    c.stages = ("perception", "cognition")
    c.stage = ConfigDict()
    c.stage.perception = stage("perception", ("emotion", "audio", "image"), max_words=120)
    c.stage.cognition = stage("cognition", ("emotion", "think", "reason"), max_words=200)
    c.stage.joint = stage(
        "cognition", ("emotion", "audio", "image", "think", "reason"), max_words=200
    )

    # (regular expression on the tree path, train | freeze); the first match decides, every leaf must match.
    c.trainable = (
        (r"lora/.*", "train"),
        (r"params/(fusion|project_\w+)/.*", "train"),
        (r"params/(eva_image|eva_video|ln_vision|whisper|llama)/.*", "freeze"),
    )

    c.optim = ConfigDict()  # a stage may change each of these: config.stage.NAME.optim
    c.optim.lr = 1e-4
    c.optim.min_lr = 1e-6
    c.optim.warmup_lr = 1e-6
    c.optim.warmup = 1000  # steps
    c.optim.b1 = 0.9
    c.optim.b2 = 0.999
    c.optim.eps = 1e-8
    c.optim.weight_decay = 0.05  # on tensors of two or more dimensions (a layer's, not the stack's)
    c.optim.clip = 0.0  # global norm; 0 is off, as released
    c.optim.ema = 0.0  # decay of the averaged weights that are evaluated and kept; 0 is off

    c.train = ConfigDict()
    c.train.batch = 4  # rows of a step, on all devices
    # Above 0: rows of a step on each device, in place of batch. Steps and warm-up are scaled so that a stage sees as many
    # samples as batch x steps says; the learning rate stays.
    c.train.rows_per_device = 0
    c.train.accumulate = (
        1  # equal parts in which a step takes its batch: less memory, same gradient
    )
    c.train.mesh = (
        -1,
        1,
        1,
    )  # data, fsdp, tensor; -1 takes what is left; (0, 0, 0): up to 16 devices on fsdp, the rest on data
    c.train.log_every = 50
    c.train.save_every = 5000
    c.train.log_clips = False  # clips-N.jsonl: which clips process N had in each step
    c.train.keep = 2  # newest checkpoints of a stage that are kept, and beside them the best one
    c.train.validate_every = 0  # steps between scores of the validation split; 0: never
    c.train.validate_clips = 256  # at most so many clips of it, the same ones each time
    c.train.take = "last"  # last | best: the weights that a stage hands on; best by validation score, never by the test split
    # Model folder, or name of an imported model, whose weights a run starts from; its sizes must be the run's.
    c.train.init_from = config_dict.placeholder(str)
    c.train.tokenizer = "llama"  # llama: the LLaMA-2 file; small: trained on the run's own texts
    c.train.tokenizer_path = config_dict.placeholder(str)
    return c


def split_variant(variant: str) -> tuple[str, bool]:
    """`stage1_pod` -> (`stage1`, True)."""
    name = variant.removesuffix("pod").removesuffix("_")
    return (name, True) if variant.endswith("pod") else (variant, False)


def to_pod(c: ConfigDict) -> None:
    """Many devices: weights and optimizer split over up to 16 of them, four rows on each (docs/scaling.md)."""
    c.train.mesh = (0, 0, 0)
    c.train.rows_per_device = 4


def _tower(size: int, patch: int, width: int, depth: int, heads: int, mlp: int) -> ConfigDict:
    return ConfigDict(
        {
            "size": size,
            "patch": patch,
            "width": width,
            "depth": depth,
            "heads": heads,
            "mlp": mlp,
            "dropout": 0.0,
        }
    )


def stage(style: str, tasks: tuple[str, ...], max_words: int) -> ConfigDict:
    """One curriculum stage."""
    c = ConfigDict()
    c.style = style  # prompt style
    c.tasks = tasks  # drawn uniformly per sample
    c.max_words = max_words  # longer answers fall back to the label task
    c.steps = 50_000
    c.drop_modality = 0.0  # chance to hide one modality of a sample; 0 as released
    c.strange_words = 0.0  # chance of a made-up word at each place between words; 0 as released
    c.released = True  # sets of MMEVerse are asked as released (data_pipeline/loader/released_stages.py), others by the fields above
    c.restore_image = False  # after a failed audio task the released code trains on a zero image
    c.inherits = "previous"  # weights it starts from: previous | start (those of the run) | the name of an earlier stage
    c.weights = ""  # "name=weight,...": draws of data sets, 0 leaves one out; "": those of config.data.weights
    c.trainable = ()  # rules as in config.trainable; (): those
    c.optim = ConfigDict(
        {name: config_dict.placeholder(float) for name in OPTIM}
    )  # None: that of config.optim
    return c
