//! What we know of the standard library and of a few libraries that thread or loop: a compact table.

use super::{Container, Std, Type};

/// What calling something external gives: the type of the new object.
#[must_use]
pub fn constructed(dotted: &str) -> Option<Type> {
    let kind = match dotted {
        "threading.Lock"
        | "_thread.allocate_lock"
        | "threading._allocate_lock"
        | "_thread.LockType"
        | "threading._PyRLock"
        | "multiprocessing.Lock"
        | "filelock.FileLock"
        | "dummy_threading.Lock" => Std::Lock,
        "threading.RLock" | "threading._RLock" | "multiprocessing.RLock" | "_thread.RLock" => Std::RLock,
        "threading.Condition" | "multiprocessing.Condition" => Std::Condition,
        "threading.Semaphore" | "threading.BoundedSemaphore" | "multiprocessing.Semaphore" => Std::Semaphore,
        "threading.Event" | "multiprocessing.Event" => Std::Event,
        "threading.Barrier" => Std::Barrier,
        "threading.Thread" => Std::Thread,
        "threading.Timer" => Std::Timer,
        "threading.local"
        | "_thread._local"
        | "asgiref.local.Local"
        | "werkzeug.local.Local"
        | "werkzeug.local.LocalProxy"
        | "werkzeug.local.LocalStack" => Std::ThreadLocal,
        "contextvars.ContextVar" => Std::ContextVar,
        "queue.Queue"
        | "queue.LifoQueue"
        | "queue.PriorityQueue"
        | "queue.SimpleQueue"
        | "multiprocessing.Queue"
        | "multiprocessing.JoinableQueue"
        | "_queue.SimpleQueue"
        | "Queue.Queue" => Std::Queue,
        "concurrent.futures.ThreadPoolExecutor"
        | "concurrent.futures.thread.ThreadPoolExecutor"
        | "multiprocessing.pool.ThreadPool"
        | "multiprocessing.dummy.Pool" => Std::Executor,
        "concurrent.futures.ProcessPoolExecutor" | "multiprocessing.Pool" | "multiprocessing.Process" => Std::Process,
        "concurrent.futures.Future" => Std::Future,
        "asyncio.Lock" | "asyncio.locks.Lock" => Std::AsyncLock,
        "asyncio.Condition" => Std::AsyncCondition,
        "asyncio.Semaphore" | "asyncio.BoundedSemaphore" => Std::AsyncSemaphore,
        "asyncio.Event" => Std::AsyncEvent,
        "asyncio.Queue" | "asyncio.PriorityQueue" | "asyncio.LifoQueue" => Std::AsyncQueue,
        "asyncio.Future" => Std::AsyncFuture,
        "asyncio.create_task" | "asyncio.ensure_future" | "asyncio.Task" | "asyncio.run_coroutine_threadsafe" => {
            Std::Task
        }
        "asyncio.get_event_loop" | "asyncio.get_running_loop" | "asyncio.new_event_loop" => Std::Loop,
        "asyncio.TaskGroup" => Std::TaskGroup,
        "itertools.count" => Std::Count,
        "weakref.ref" | "weakref.WeakMethod" => Std::WeakRef,
        "socket.socket" | "socket.create_connection" | "open" | "sqlite3.connect" | "subprocess.Popen" => Std::Resource,
        "logging.getLogger" | "structlog.get_logger" => Std::Logger,
        _ => return container(dotted).map(Type::Container).or_else(|| plain(dotted).then_some(Type::Plain)),
    };
    Some(Type::Std(kind))
}

/// The built-in containers and those of `collections` and `weakref`, also by the names that annotations use.
#[must_use]
pub fn container(dotted: &str) -> Option<Container> {
    Some(match dotted {
        "list" | "typing.List" | "collections.UserList" | "bytearray" | "array.array" | "typing.MutableSequence" => {
            Container::List
        }
        "dict"
        | "typing.Dict"
        | "collections.OrderedDict"
        | "collections.defaultdict"
        | "collections.Counter"
        | "typing.DefaultDict"
        | "typing.OrderedDict"
        | "typing.MutableMapping"
        | "typing.Counter"
        | "collections.UserDict"
        | "collections.ChainMap"
        | "collections.abc.MutableMapping"
        | "collections.MutableMapping" => Container::Dict,
        "set" | "typing.Set" | "typing.MutableSet" => Container::Set,
        "collections.deque" | "typing.Deque" => Container::Deque,
        "weakref.WeakSet" => Container::WeakSet,
        "weakref.WeakKeyDictionary" | "weakref.WeakValueDictionary" => Container::WeakDict,
        _ => return None,
    })
}

/// Does calling this give an immutable value whose identity nobody cares about?
#[must_use]
pub fn plain(dotted: &str) -> bool {
    PLAIN.contains(&dotted)
}

/// What gives immutable values.
#[rustfmt::skip] // a table, not a list
static PLAIN: &[&str] = &[
    "int", "str", "bytes", "float", "bool", "complex", "tuple", "frozenset", "len", "sum", "hash", "id", "repr",
    "round", "abs", "ord", "chr", "isinstance", "issubclass", "hasattr", "callable", "all", "any", "object", "range",
    "slice", "format", "hex", "bin", "type", "time.time", "time.monotonic", "time.perf_counter", "time.time_ns",
    "os.getpid", "os.urandom", "os.environ.get", "os.getenv", "os.getcwd", "os.path.join", "os.path.abspath",
    "os.path.dirname", "os.path.exists", "re.compile", "re.match", "pathlib.Path", "decimal.Decimal",
    "fractions.Fraction", "datetime.datetime", "datetime.datetime.now", "datetime.datetime.utcnow",
    "datetime.timedelta", "datetime.date", "uuid.uuid4", "uuid.UUID", "operator.attrgetter", "operator.itemgetter",
    "functools.partial", "types.MappingProxyType", "struct.Struct", "platform.system", "sys.getrecursionlimit",
    "collections.namedtuple", "typing.NamedTuple", "enum.Enum", "string.Template", "socket.gethostname",
    "shutil.which", "importlib.import_module", "__import__", "threading.get_ident", "threading.current_thread",
    "locale.getpreferredencoding", "sys.getfilesystemencoding", "importlib.metadata.version",
];

/// A base outside the project whose instances are immutable.
#[must_use]
pub fn plain_base(dotted: &str) -> bool {
    plain(dotted) || matches!(dotted.rsplit('.').next(), Some("NamedTuple" | "Enum" | "IntEnum" | "StrEnum" | "Flag"))
}

/// Methods of the built-in types: too common to say anything about the class of an unknown receiver.
#[must_use]
pub fn is_common_method(name: &str) -> bool {
    COMMON_METHODS.contains(&name)
}

/// Names of methods that many classes have.
#[rustfmt::skip] // a table, not a list
static COMMON_METHODS: &[&str] = &[
    "get", "pop", "append", "add", "remove", "discard", "clear", "update", "items", "keys", "values", "extend",
    "insert", "popleft", "appendleft", "popitem", "setdefault", "copy", "count", "index", "sort", "reverse", "join",
    "split", "strip", "format", "encode", "decode", "read", "write", "close", "open", "send", "recv", "put", "set",
    "wait", "acquire", "release", "start", "run", "stop", "result", "done", "cancel", "submit", "map", "info",
    "debug", "warning", "error", "exception", "log", "next", "flush", "seek", "match", "search", "group", "lower",
    "upper", "replace", "startswith", "endswith", "find", "save", "delete", "execute", "commit", "call", "connect",
    "exists", "name", "is_set", "notify", "render", "process", "handle", "register", "filter", "all", "first",
    "create", "load", "dump", "dumps", "loads", "parse", "visit", "__init__", "__enter__", "__exit__", "__call__",
    "emit", "reset", "size", "check", "validate",
];
