//! The options of `boss dead`.

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};

use crate::boss::dead::{Action, IdPrefix, Which};
use crate::command::dead::Request;

/// `boss dead`.
#[derive(Debug, Args)]
pub struct DeadArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub what: DeadCommand,
    /// Print one JSON object on stdout and nothing else there
    #[arg(long, global = true, env = "RABBITRY_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List them, the oldest first; they stay where they are
    Ls,
    /// Show all of one; it stays where it is
    Show {
        /// Its id as `ls` lists it, or that of a task in it; the first six digits or more are enough
        #[arg(value_name = "ID")]
        id: IdPrefix,
    },
    /// Publish tasks again, with their ids and no attempt counted
    Retry {
        /// Which.
        #[command(flatten)]
        which: WhichArgs,
        /// Even if the queue for the answer or for the payload is not there, or the deadline has passed. A worker that meets
        /// such a task drops it, or answers that it is late
        #[arg(long, env = "RABBITRY_FORCE", value_parser = FalseyValueParser::new())]
        force: bool,
    },
    /// Throw them away
    Drop {
        /// Which.
        #[command(flatten)]
        which: WhichArgs,
    },
}

/// Which letters are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct WhichArgs {
    /// Their ids as `ls` lists them, or those of tasks in them; the first six digits or more are enough
    #[arg(value_name = "ID")]
    pub ids: Vec<IdPrefix>,
    /// All that are there now
    #[arg(long = "all", id = "all_letters", env = "RABBITRY_ALL_LETTERS", value_parser = FalseyValueParser::new())]
    pub all: bool,
}

impl WhichArgs {
    fn which(&self) -> Which {
        if self.all { Which::All } else { Which::These(self.ids.clone()) }
    }
}

impl DeadArgs {
    /// What is asked.
    pub fn request(&self) -> Request {
        match &self.what {
            DeadCommand::Ls => Request::List,
            DeadCommand::Show { id } => Request::Show(id.clone()),
            DeadCommand::Retry { which, force } => Request::Act(Action::Retry { force: *force }, which.which()),
            DeadCommand::Drop { which } => Request::Act(Action::Drop, which.which()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{BossCli, BossCommand};
    use super::*;

    fn request(line: &str) -> Result<(Request, bool), clap::Error> {
        let line = format!("boss --broker amqp://h dead {line}");
        let cli = BossCli::try_parse_from(line.split(' '))?;
        let BossCommand::Dead(args) = cli.command else { panic!("{:?}", cli.command) };
        Ok((args.request(), args.json))
    }

    #[test]
    fn letters_are_named_or_all_and_never_neither() {
        let ids = |ids: &[&str]| Which::These(ids.iter().map(|id| id.parse().unwrap()).collect());
        let (asked, json) = request("retry abcdef 0123456789 --force --json").unwrap();
        assert!(json);
        assert!(
            matches!(asked, Request::Act(Action::Retry { force: true }, which) if which == ids(&["abcdef", "0123456789"]))
        );
        let (asked, json) = request("drop --all").unwrap();
        assert!(matches!(asked, Request::Act(Action::Drop, Which::All)) && !json);
        for wrong in [
            "",
            "retry",
            "drop",
            "drop --all abcdef",
            "show",
            "show abcde",
            "show abcdef abcdef",
            "drop abcdeg",
            "ls x",
        ] {
            assert!(request(wrong).is_err(), "{wrong:?}");
        }
    }
}
