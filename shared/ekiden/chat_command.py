"""The `ekiden chat` command."""

from typing import Annotated

import typer

Message = Annotated[str | None, typer.Argument(help="What to ask; without it, stdin or a conversation.")]
Url = Annotated[str | None, typer.Option(help="The service; otherwise EKIDEN_URL, or http://127.0.0.1:8000.")]
ApiKey = Annotated[
    str | None, typer.Option(help="The key; EKIDEN_API_KEY is safer, as other users of this machine see options.")
]
Model = Annotated[str | None, typer.Option(help="Model to ask; the service's default otherwise.")]
System = Annotated[str | None, typer.Option(help="System message.")]
MaxTokens = Annotated[int | None, typer.Option(help="Longest answer.")]
Temperature = Annotated[float | None, typer.Option(help="0 always takes the likeliest token.")]
TopP = Annotated[
    float | None, typer.Option(help="Choose among the likeliest tokens that together have this probability.")
]
TopK = Annotated[int | None, typer.Option(help="Choose among so many of the likeliest tokens; 0 is off.")]
MinP = Annotated[
    float | None, typer.Option(help="Leave out tokens less likely than this share of the likeliest; 0 is off.")
]
RepetitionPenalty = Annotated[float | None, typer.Option(help="Above 1 makes tokens that were there less likely.")]
Seed = Annotated[int | None, typer.Option(help="The same seed makes the same choices.")]
Conversation = Annotated[
    str | None, typer.Option(metavar="ID", help="Go on with a conversation that the service keeps; `new` begins one.")
]
Job = Annotated[str | None, typer.Option(help="Follow this job instead of asking.")]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def chat(
        message: Message = None,
        url: Url = None,
        api_key: ApiKey = None,
        model: Model = None,
        system: System = None,
        max_tokens: MaxTokens = None,
        temperature: Temperature = None,
        top_p: TopP = None,
        top_k: TopK = None,
        min_p: MinP = None,
        repetition_penalty: RepetitionPenalty = None,
        seed: Seed = None,
        conversation: Conversation = None,
        job: Job = None,
    ) -> None:
        """Chat with the service: one answer to stdout, or a conversation at a terminal.

        The service keeps a conversation at a terminal; --conversation goes on with it later, there or with one message.
        """
        _check(message, system, conversation, job)
        from ekiden.client.frames import Sampling
        from ekiden.client.talk import Question, talk

        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
        sampling |= Sampling(repetition_penalty=repetition_penalty, seed=seed)
        raise typer.Exit(talk(Question(message, job, conversation, system, model, sampling), url, api_key))


def _check(message: str | None, system: str | None, conversation: str | None, job: str | None) -> None:
    if job is not None and (message is not None or conversation is not None):
        raise typer.BadParameter("--job follows an answer; it takes neither a message nor --conversation")
    if system is not None and conversation not in (None, "new"):
        raise typer.BadParameter("--system is for a new conversation")
