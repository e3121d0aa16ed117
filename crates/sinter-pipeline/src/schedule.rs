//! In which order stages are done, and what each needs: the plan as jobs.

use sinter_model::Model;
use sinter_train::TeacherRef;

use crate::resolve::{Key, Plan, find};

/// One stage to be done, or to be read from the cache. Job 0 measures the model as it came.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Of the stage, counted from 1.
    pub index: usize,
    /// Of how many stages.
    pub of: usize,
    /// `1-train`.
    pub name: String,
    /// Of its result.
    pub key: &'a Key,
    /// Of the model that goes in.
    pub input: &'a Key,
    /// The stage's own: the same run gives it the same one.
    pub seed: u64,
    /// Whether its result is the float model that losses are measured against.
    pub leaves_float: bool,
}

/// The jobs of a plan, in order.
pub(crate) fn jobs(plan: &Plan) -> Vec<Job<'_>> {
    let float = plan.training_stages();
    let each = plan.keys.iter().enumerate().map(|(index, key)| Job {
        index,
        of: plan.stages.len(),
        name: plan.stage_name(index),
        key,
        input: &plan.keys[index.saturating_sub(1)],
        seed: plan.config.seed.wrapping_mul(1_000_003).wrapping_add(index as u64),
        leaves_float: index == float,
    });
    each.collect()
}

/// Whose result a teacher is, for a stage: the index of a job, or a file.
#[derive(Debug)]
pub(crate) enum Teacher<'a> {
    /// The float model before compression.
    Float,
    /// What a job left.
    Job(usize),
    /// A model that came as a file of its own.
    File(&'a Model),
}

/// Finds a teacher for a job; `None` when no earlier stage has that name.
pub(crate) fn teacher<'a>(plan: &'a Plan, job: &Job, wanted: &TeacherRef) -> Option<Teacher<'a>> {
    Some(match wanted {
        // While the float model itself is trained, what stands so far teaches.
        TeacherRef::Float if job.index <= plan.training_stages() => Teacher::Job(job.index - 1),
        TeacherRef::Float => Teacher::Float,
        TeacherRef::Stage(name) => Teacher::Job(find(&plan.stages[..job.index - 1], name)? + 1),
        TeacherRef::Onnx(_) => {
            let own = &plan.stages[job.index - 1].teachers;
            Teacher::File(own.iter().find_map(|(teacher, model)| (teacher == wanted).then_some(model))?)
        }
    })
}
