import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatRelative } from "./dates";

type Post = Schema<"workspace.Post">;

/** Titles of posts as a card, the pinned ones marked; `none` says that there are none. */
export function Posts({
  title,
  posts,
  all,
  none,
}: {
  title: React.ReactNode;
  posts: Post[];
  all?: string;
  none?: string;
}) {
  const { t, language } = useText();
  return (
    <section className="card">
      <div className="card-head">
        <h2>{title}</h2>
        <span className="grow" />
        {all && <Link to={all}>{t("home.all")}</Link>}
      </div>
      <ul className="inbox">
        {posts.map((post) => (
          <li key={post.name} className="card-body">
            {post.pinned && <span className="tag tag-warn">{t("boards.pinned")}</span>}{" "}
            <Link to={`/${post.name ?? ""}`}>{post.displayName}</Link>{" "}
            <span className="faint">{formatRelative(post.publishTime ?? "", language)}</span>
          </li>
        ))}
        {none && posts.length === 0 && <li className="card-body faint">{none}</li>}
      </ul>
    </section>
  );
}
