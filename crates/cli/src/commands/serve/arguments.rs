//! The flags of `dlog serve`, made from the table of settings: one flag for each.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::resolve::{self, Resolved};
use crate::config::sources::{self, Given, Origin};
use crate::config::table::{Kind, SETTINGS, Setting};

/// What the command line says about the server; the default is a command line without flags.
#[derive(Clone, Debug, Default)]
pub struct ServeArgs {
    config: Option<PathBuf>,
    given: Vec<Given>,
}

const CONFIG: &str = "config-file";

impl ServeArgs {
    /// Joins file, environment and flags.
    ///
    /// # Errors
    /// The first setting that does not exist or value that is not allowed, with its place.
    pub fn resolve(&self) -> Result<Resolved, crate::config::ConfigError> {
        let variable = std::env::var_os("DLOG_CONFIG").filter(|path| !path.is_empty());
        let file = self.config.clone().or(variable.map(PathBuf::from));
        let mut all = match file {
            Some(path) => sources::read_file(&path)?,
            None => Vec::new(),
        };
        all.extend(sources::from_environment(std::env::vars_os())?);
        all.extend(self.given.iter().cloned());
        resolve::resolve(all)
    }

    fn read(matches: &ArgMatches) -> Self {
        let config = matches.get_one::<PathBuf>(CONFIG).cloned();
        let given = SETTINGS.iter().filter_map(|setting| {
            let values = matches.get_many::<String>(setting.name)?;
            let values: Vec<&str> = values.map(String::as_str).collect();
            Some(Given {
                name: setting.name.to_owned(),
                value: values.join(","),
                origin: Origin::Flag(setting.flag.to_owned()),
            })
        });
        Self {
            config,
            given: given.collect(),
        }
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::read(matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::read(matches);
        Ok(())
    }
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long("config")
            .value_name("path")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with settings, by the names that `dlog config print` shows [env: DLOG_CONFIG]")
            .help_heading("Settings: a flag wins over the environment, that over the file");
        SETTINGS
            .iter()
            .map(argument)
            .fold(command.arg(config), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let mut help = setting.doc.trim_end_matches('.').to_owned();
    if let Some(default) = &setting.default {
        help += &format!(" [default: {default}]");
    }
    help += &format!(" [env: {}]", setting.variable());
    let action = match setting.kind {
        Kind::List => ArgAction::Append,
        _ => ArgAction::Set,
    };
    Arg::new(setting.name)
        .long(setting.flag)
        .value_name(setting.kind.word())
        .help(help)
        .help_heading(setting.section)
        .action(action)
        // Some numbers are negative: -1 is "no limit" in many of Kafka's settings.
        .allow_negative_numbers(true)
}
